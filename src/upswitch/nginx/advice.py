"""What an owner should add to nginx's configuration by hand, as lines to paste, and where."""

from collections.abc import Collection

from upswitch.nginx import conf_logs, configuration
from upswitch.nginx.build import Build
from upswitch.nginx.conf_logs import AccessLog
from upswitch.nginx.configuration import ProxiedLocation
from upswitch.nginx.dump import NginxConf

LOG_FORMAT_NAME = "upswitch"
_LOGGED = {
    "msec": "msec",
    "method": "request_method",
    "uri": "request_uri",
    "host": "host",
    "status": "status",
    "request_time": "request_time",
    "upstream_addr": "upstream_addr",
    "upstream_status": "upstream_status",
    "upstream_connect_time": "upstream_connect_time",
    "upstream_header_time": "upstream_header_time",
    "upstream_response_time": "upstream_response_time",
    "upstream_bytes_sent": "upstream_bytes_sent",
    "upstream_bytes_received": "upstream_bytes_received",
    "generation": "upswitch_generation",
    "pool": "upswitch_pool",
    "pid": "pid",
    "connection": "connection",
    "connection_requests": "connection_requests",
    "completion": "request_completion",
}


def log_format_line() -> str:
    """The `log_format` that tells the watch and `diagnose` the most (nginx-facts.md, section 7; nginx 1.15.8 and later).

    nginx refuses it before the live generation is included: the generation's variables are defined there.
    """
    fields = ",".join(f'"{name}":"${variable}"' for name, variable in _LOGGED.items())
    return f"log_format {LOG_FORMAT_NAME} escape=json '{{{fields}}}';"


def own_logs(conf: NginxConf, build: Build, upstreams: Collection[str]) -> tuple[AccessLog, ...]:
    """The access logs that requests to these upstreams end in; every one where none can be told."""
    logs = conf_logs.access_logs(conf, build)
    return tuple(log for log in logs if set(log.upstreams) & set(upstreams)) or logs


def lacks_generation(log: AccessLog) -> bool:
    """A log that is written but does not say which generation a request was of."""
    return not log.is_off and (log.format is None or "$upswitch_generation" not in log.format.text)


def undrained(conf: NginxConf, build: Build, upstreams: Collection[str], *, flag: str) -> tuple[ProxiedLocation, ...]:
    """The locations that lose requests at a reload: without drain lines, or with those of another flag. None since nginx 1.27.4."""
    if not build.needs_drain_flag:
        return ()
    return tuple(each for each in configuration.proxied_locations(conf, upstreams) if each.drain_flag != flag)
