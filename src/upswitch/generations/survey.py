"""One host as it is now: what is on disk, which processes run, which nginx it is and how it is configured.

A glance reads disk and processes (what `status` needs), a survey reads everything (what a switch needs). Each is one round trip.
"""

from collections.abc import Mapping, Sequence

import msgspec

from upswitch.basics.errors import HostError, NginxBrokenError
from upswitch.basics.result import Why, why_printed
from upswitch.basics.value import Value
from upswitch.generations import store
from upswitch.generations.generation import Live
from upswitch.generations.store import Disk
from upswitch.hosts import batch
from upswitch.hosts.host import Host, Ran
from upswitch.hosts.sh import QUICK_S
from upswitch.nginx import conf_logs, configuration, dump, log_target, processes
from upswitch.nginx.build import Build
from upswitch.nginx.commands import can_mount, dump_argv, nginx_version, probe_check
from upswitch.nginx.marker import CheckStatus, held_down
from upswitch.nginx.running import (
    NGINX_S,
    Running,
    build_from,
    conf_from,
    error_log_paths,
    read_dialect,
    read_running,
    running_from,
)
from upswitch.site.model import Dialect, Nginx, Site


class Facts(Value):
    """What a survey found. `access_logs` are those that log requests to our upstreams.

    `error_log` is the master's, "" without a file, and `error_gap` then says why. `live_files` are the live generation's by name,
    empty where they were not read.
    """

    disk: Disk
    running: Running
    build: Build
    conf: dump.NginxConf
    access_logs: tuple[conf_logs.AccessLog, ...] = ()
    error_log: str = ""
    error_gap: str = ""
    pid_file: str = ""
    can_mount: bool = False
    dialect: Dialect = Dialect.NONE
    live_files: Mapping[str, bytes] = {}

    @property
    def is_conf_read(self) -> bool:
        return bool(self.conf.files)

    @property
    def checked(self) -> CheckStatus | None:
        """nginx's own view of its servers, None where it has none."""
        return self.running.checked


def glance(host: Host, nginx: Nginx) -> tuple[Disk, Running]:
    """Disk and processes, without asking nginx for its configuration."""
    return glance_from(host, nginx, batch.run(host, glance_argvs(nginx), deadline=QUICK_S))


def glance_argvs(nginx: Nginx) -> tuple[tuple[str, ...], ...]:
    return store.look_argv(nginx.dir), processes.look(nginx.dir, nginx.marker)


def disagreement(disk: Disk, running: Running, *, want: str) -> str:
    """Why this host does not serve the generation `want`; "" where it does."""
    answer = running.marker.generation if running.marker else "no generation"
    if disk.live == answer == want and not running.problem:
        return ""
    said = f"the live link points to {disk.live or 'no generation'} and nginx reports {answer}, but {want} should be live"
    return f"{said}; {running.problem}" if running.problem else said


def glance_from(host: Host, nginx: Nginx, seen: Sequence[Ran]) -> tuple[Disk, Running]:
    """What the commands of `glance_argvs` found. The pid file is the one that the live manifest names."""
    disk, running = store.disk_from(nginx, seen[0]), running_from(host, nginx, seen[1])
    if disk.manifest is None:
        return disk, msgspec.structs.replace(running, problem=_without_manifest(disk, running, nginx))
    return disk, _of(host, nginx, running, disk.manifest.pid_file)


def _without_manifest(disk: Disk, running: Running, nginx: Nginx) -> str:
    present = {each.name for each in disk.generations}
    served = running.marker.generation if running.marker else ""
    if disk.live in present:
        return f"{disk.live}/manifest.json can't be read"
    if served in present:
        back = f"`ln -sfn generations/{served} {nginx.live}` sets it back"
        return f"{nginx.live} leads to no generation, and nginx serves {served}: {back}"
    return "no generation of upswitch is live (`upswitch init` makes the first)"


def _of(host: Host, nginx: Nginx, running: Running, pid_file: str) -> Running:
    """`running` if it was read from `pid_file`; else what runs by that file."""
    return running if running.pid_file == pid_file else read_running(host, nginx, pid_file)


def live_now(host: Host, nginx: Nginx) -> Live:
    """What serves, read now. A host that can't be read is a problem in the result."""
    try:
        disk, running = glance(host, nginx)
    except HostError as exc:
        return Live(disk="", running="", pool="", problem=str(exc))
    return live(disk, running)


def live(disk: Disk, running: Running) -> Live:
    problem = running.problem or (f"edited on disk: {', '.join(disk.drift)}" if disk.drift else "")
    reported = running.marker.generation if running.marker else ""
    return Live(
        disk=disk.live,
        running=reported,
        pool=disk.pool,
        problem=problem,
        is_managed=disk.live != "" or reported != "",
        held_down=held_down(running.checked, disk.manifest.servers) if disk.manifest else (),
    )


class Configured(Value):
    """nginx's configuration on disk, read and tested now. `problem` says why it could not be; `is_broken`: nginx rejects it.

    `left_out` is a sentence where it does not include the live generation or no pass names its upstreams, else "".
    `overgrown` is one where the log of our own is too large.
    """

    conf: dump.NginxConf | None = None
    access_logs: tuple[conf_logs.AccessLog, ...] = ()
    problem: str = ""
    is_broken: bool = False
    left_out: str = ""
    overgrown: str = ""


def configured(host: Host, site: Site, *, master: int = 0) -> Configured:
    """In two round trips; `master` is nginx's pid.

    A user who may not test it, or names that don't resolve in time, prove nothing.
    """
    nginx = site.nginx
    version, dumped = batch.run(host, (nginx_version(nginx), dump_argv(nginx, seconds=CONFIGURED_S)), deadline=2 * CONFIGURED_S)
    if dumped.exit is None or dumped.exit == _KILLED:
        return Configured(problem=f"`nginx -t` did not end within {CONFIGURED_S:g} s")
    if why_printed(dumped.err) is Why.DENIED:
        return Configured(problem=f"this user may not test it: {dumped.words}")
    if dumped.exit in _NOT_RUN:
        return Configured(problem=dumped.words)
    try:
        build, conf = build_from(nginx, version), conf_from(dumped)
    except NginxBrokenError as exc:
        return Configured(problem=exc.said, is_broken=dumped.exit != 0)
    names = tuple(upstream.name for upstream in site.upstreams)
    logs = conf_logs.own_logs(conf, build, names, path=nginx.access_log, live=nginx.live)
    logs = log_target.found(host, logs, (), master=master).access
    return Configured(conf=conf, access_logs=logs, left_out=_left_out(conf, site), overgrown=_overgrown(host, logs))


def _overgrown(host: Host, logs: tuple[conf_logs.AccessLog, ...]) -> str:
    """The log of our own is cut each minute, if what cuts it runs."""
    most = conf_logs.LARGEST_OWN
    for log in logs:
        if log.format_name == conf_logs.own_format_name(log.prefix):
            chunk = host.read(log.path, limit=0)
            if chunk and chunk.size > _FAR_OVER * most:
                said = f"{log.path} has {chunk.size >> 20} MiB and should be cut at {most >> 20} MiB"
                return f"{said}: the timer or the line for cron that cuts it does not run. Cut it now: `truncate -s 0 {log.path}`"
    return ""


_FAR_OVER = 4
"""Times as large: a minute of a very busy site is two."""


def _left_out(conf: dump.NginxConf, site: Site) -> str:
    """A program that writes nginx's files, or a person, took the include out: the next reload would lose the live generation."""
    names = {upstream.name.lower() for upstream in site.upstreams}
    if configuration.includes_live(conf, site.nginx.include) is not None:
        return _unreached(conf, names)
    own = [
        f"upstream {each.args[0]} is at {each.place} now"
        for each in configuration.upstream_blocks(conf)
        if each.args[0].lower() in names
    ]
    programs = ", ".join(f'{path} ("{said}")' for path, said in configuration.generated(conf).items())
    by = f". A program writes {programs}: change its template, or it takes the include out again" if programs else ""
    where = f" ({'; '.join(own)})" if own else ""
    return (
        f"{conf.path} no longer includes the live generation{where}: after the next reload a switch changes nothing. "
        f"Put `include {site.nginx.include};` back into its http block{by}"
    )


def _unreached(conf: dump.NginxConf, names: set[str]) -> str:
    """A script put an address or another upstream into the pass again, and left the include alone. A `redis2_pass` counts, too."""
    passes = [each for each in dump.walk(configuration.http_children(conf, "server")) if each.name.endswith("_pass")]
    reached = {each: configuration.passed_upstreams(conf, each) for each in passes if each.args}
    named = {name.lower() for found in reached.values() for name in found}
    if not reached or "" in named or named & names:
        return ""
    others = ", ".join(f"{each.place} passes to {found[0]}" for each, found in list(reached.items())[:_MOST_PASSES])
    return f"no pass names upstream {', '.join(sorted(names))} any more, so a switch changes nothing for clients: {others}"


_MOST_PASSES = 3
CONFIGURED_S = 5.0
"""Seconds for `status` and `drain` to read the configuration."""
_KILLED = 137
_NOT_RUN = (126, 127)


def survey(host: Host, nginx: Nginx, upstreams: tuple[str, ...]) -> Facts:
    """Everything that a switch needs to know, read now.

    Two round trips: where the logs really are can be asked only once the configuration is read. Two more commands may follow: where
    modules are loaded, and where the pid file is not the live manifest's.
    """
    commands = (
        nginx_version(nginx),
        dump_argv(nginx, seconds=NGINX_S),
        probe_check(nginx, modules=()),
        *glance_argvs(nginx),
        can_mount(),
        store.tar_argv(nginx.live),
    )
    version, dumped, checked, disk, running, mounted, live = batch.run(host, commands, deadline=3 * NGINX_S)
    build, conf = build_from(nginx, version), conf_from(dumped)
    pid_file = configuration.pid_file(conf, build)
    dialect = read_dialect(host, nginx, conf, seen=checked)
    runs = _of(host, nginx, running_from(host, nginx, running), pid_file)
    logs = log_target.found(
        host,
        conf_logs.own_logs(conf, build, upstreams, path=nginx.access_log, live=nginx.live),
        error_log_paths(nginx, build, conf),
        master=runs.pid if runs.master else 0,
    )
    return Facts(
        disk=store.disk_from(nginx, disk),
        live_files=_files(live),
        running=runs,
        build=build,
        conf=conf,
        access_logs=logs.access,
        error_log=logs.error,
        error_gap=logs.error_gap,
        pid_file=pid_file,
        can_mount=mounted.exit == 0,
        dialect=dialect,
    )


def _files(ran: Ran) -> dict[str, bytes]:
    """Empty where they can't be read. The caller that needs them reports it."""
    try:
        return store.unpack(ran.out) if ran.exit == 0 else {}
    except ValueError:
        return {}


def survey_without_conf(host: Host, nginx: Nginx) -> Facts:
    """For a rollback from a configuration that no longer passes: what /proc, the disk and the live manifest say."""
    commands = (*glance_argvs(nginx), nginx_version(nginx), can_mount())
    *seen, version, mounted = batch.run(host, commands, deadline=NGINX_S)
    disk, running = glance_from(host, nginx, seen)
    return Facts(
        disk=disk,
        running=running,
        build=build_from(nginx, version),
        conf=dump.NginxConf(files=(), tree=()),
        error_log=disk.manifest.error_log if disk.manifest else "",
        dialect=running.checked.dialect if running.checked else Dialect.NONE,
        pid_file=running.pid_file,
        can_mount=mounted.exit == 0,
    )
