"""nginx's own health check on a host: whose module it is, what it says, and whether its master has rejected a reload."""

from upswitch.basics.errors import NginxBrokenError
from upswitch.hosts.host import Host, Ran
from upswitch.nginx import build, commands, configuration
from upswitch.nginx.check_status import CheckStatus, parse_check_status
from upswitch.nginx.dump import NginxConf
from upswitch.nginx.running import ask
from upswitch.site.model import Nginx
from upswitch.site.words import Dialect

_TEST = 20.0  # seconds
_QUICK = 5.0


def read_dialect(host: Host, nginx: Nginx, conf: NginxConf, *, seen: Ran | None = None) -> Dialect:
    """Found by testing a configuration of our own: a module may be linked in or loaded, and `nginx -V` need not say its name.

    `seen`: what came of such a test with no module loaded.
    """
    modules = configuration.load_modules(conf)
    ran = seen if seen and not modules else host.run(commands.probe_check(nginx, modules=modules), deadline=_TEST)
    found = build.judge(ran.err)
    if found is None:
        raise NginxBrokenError(f"whether this nginx has a check module can't be found out: {ran.words}")
    return found


def ask_status(host: Host, nginx: Nginx) -> CheckStatus | None:
    """What `check_status` says on the marker server; None where the live generation has none: no module, or it is from before."""
    body = ask(host, nginx, path="/check", timeout=_QUICK)
    return parse_check_status(body) if body is not None else None
