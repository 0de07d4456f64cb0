import os
from typing import Any

import click

from upswitch.cli.exit_codes import Exit
from upswitch.cli.invocation import SITE_FILE, Common, json_option
from upswitch.cli.program import Program, live, with_program
from upswitch.cli.views import View
from upswitch.cli.views.plan import InitView
from upswitch.generations import templates
from upswitch.site.model import Gate, Nginx, Site, Watch
from upswitch.switch.session import Session

_NGINX = Nginx()


@click.command()
@json_option
@click.option("--from", "source", required=True, metavar="FILE", help="The file that contains the upstream block now.")
@click.option("--pool", required=True, metavar="NAME", help="A name for the pool in that block, which is live now.")
@click.option("--nginx-conf", "conf", default=_NGINX.conf, show_default=True, metavar="FILE", help="nginx's main configuration.")
@click.option("--binary", default=_NGINX.binary, show_default=True, metavar="PATH", help="The nginx program.")
@click.option("--prefix", default="", metavar="FOLDER", help="What `nginx -p` needs, if anything.")
@click.option("--dir", default=_NGINX.dir, show_default=True, metavar="FOLDER", help="Where generations will be kept.")
@click.option("--state", default=_NGINX.state, show_default=True, metavar="FOLDER", help="Where lock and journal will be kept.")
@click.option(
    "--marker",
    default=_NGINX.marker,
    show_default=True,
    metavar="ADDRESS",
    help="The address where nginx will report its generation.",
)
@click.option(
    "--user", default=_NGINX.user, show_default=True, metavar="NAME", help="The user that nginx's master process runs as."
)
@click.option("--out", default=SITE_FILE, show_default=True, metavar="FILE", help="The site file to write.")
@click.option("--apply", "is_applied", is_flag=True, help="Make the change: back up, test, reload, prove; undo it on failure.")
@with_program
def init(program: Program, /, *, as_json: bool, source: str, pool: str, out: str, is_applied: bool, **words: Any) -> int:
    """Put an nginx under upswitch: show the one change that this needs, or make it.

    Without --apply, nothing is changed.
    """
    from upswitch.init import adopt, apply, propose

    nginx = Nginx(**words)
    request = adopt.InitRequest(from_path=os.path.abspath(source), pool=pool, nginx=nginx, out=os.path.abspath(out))

    def act(session: Session) -> View:
        proposal = propose.propose(session.ports, request, templates.load(session.site))
        if not is_applied:
            return InitView(command="init", exit=Exit.DONE, proposal=proposal)
        done = apply.apply(session.ports, proposal, session.owner(f"init of {request.pool}"))
        return InitView(command="init", exit=Exit.DONE, proposal=proposal, done=done, production=live(session))

    site = Site(nginx=nginx, upstreams=(), gate=Gate(), watch=Watch())
    return program.serve_site("init", Common(config=out, as_json=as_json), site, act=act)
