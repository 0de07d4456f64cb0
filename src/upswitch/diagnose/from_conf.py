"""What nginx's configuration says to a diagnosis before any line of a log is read."""

from upswitch.basics.value import Value
from upswitch.nginx import configuration
from upswitch.nginx.build import Build
from upswitch.nginx.dump import Directive, NginxConf

_KEEPS_ALIVE_SINCE = (1, 29, 7)


class Known(Value):
    """What the caller knows besides the logs; nothing by default. Upstreams by name.

    `max_conns`: those with a server that has it. `checked`: those that a check module checks with `default_down=true`.
    `keeps_alive`: whether nginx keeps connections to servers; None: not known.
    """

    max_conns: frozenset[str] = frozenset()
    checked: frozenset[str] = frozenset()
    keeps_alive: bool | None = None


def known_of(conf: NginxConf, build: Build | None) -> Known:
    """`build` None: nginx could not be asked which it is."""
    blocks = configuration.upstream_blocks(conf)
    return Known(
        max_conns=frozenset(each.args[0] for each in blocks if any(map(_is_limited, each.children("server")))),
        checked=frozenset(each.args[0] for each in blocks if _begins_down(each)),
        keeps_alive=_keeps_alive(conf, build) if build else None,
    )


def _keeps_alive(conf: NginxConf, build: Build) -> bool:
    """Since 1.29.7 without being asked to."""
    said = [each.args[:1] for block in configuration.upstream_blocks(conf) for each in block.children("keepalive")]
    return any(each != ("0",) for each in said) or (build.version >= _KEEPS_ALIVE_SINCE and not said)


def _is_limited(server: Directive) -> bool:
    return any(each.startswith("max_conns=") and each != "max_conns=0" for each in server.args)


def _begins_down(block: Directive) -> bool:
    return any("default_down=false" not in check.args for check in block.children("check"))
