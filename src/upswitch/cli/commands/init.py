"""upswitch.cli.commands.init."""

import os

import click

from upswitch.cli.commands.options import json_option, live
from upswitch.cli.session import App, Common
from upswitch.cli.views import acted
from upswitch.cli.views.parts import View
from upswitch.site.model import Gate, Nginx, Site, Watch
from upswitch.switch.session import Session

_NGINX = Nginx()


@click.command()
@json_option
@click.option("--from", "source", required=True, metavar="FILE", help="The file that holds the upstream now.")
@click.option("--pool", required=True, help="The name of the pool that it holds, and that is live.")
@click.option("--nginx-conf", "conf", default=_NGINX.conf, show_default=True)
@click.option("--binary", default=_NGINX.binary, show_default=True, help="nginx itself.")
@click.option("--prefix", default="", help="nginx -p, when it is not built in.")
@click.option("--dir", "folder", default=_NGINX.dir, show_default=True, help="Where generations will live.")
@click.option("--state", default=_NGINX.state, show_default=True, help="Where lock and journal will live.")
@click.option("--marker", default=_NGINX.marker, show_default=True, help="Where nginx will answer with its generation.")
@click.option("--user", default=_NGINX.user, show_default=True, help="Whom nginx's master runs as.")
@click.option("--out", default="upswitch.toml", show_default=True, help="The site file to write.")
@click.option("--apply", "is_applied", is_flag=True, help="Do it: backup, test, reload, proof; undone where it fails.")
@click.pass_obj
def init(app: App, /, *, as_json: bool, source: str, out: str, is_applied: bool, **words: str) -> int:
    """First use: read an nginx as its owner has it, and show (or make) the one change that puts it under upswitch."""
    from upswitch.init import apply, proposal, propose

    nginx = Nginx(
        binary=words["binary"],
        conf=words["conf"],
        prefix=words["prefix"],
        dir=words["folder"],
        state=words["state"],
        marker=words["marker"],
        user=words["user"],
    )
    request = proposal.InitRequest(from_path=os.path.abspath(source), pool=words["pool"], nginx=nginx, out=os.path.abspath(out))

    def act(session: Session) -> View:
        proposal = propose.propose(session.ports, request, app.templates(session.site))
        if not is_applied:
            return acted.proposed(proposal)
        done = apply.apply(session.ports, proposal, session.owner(f"init of {request.pool}"))
        return acted.applied(proposal, done, live(session))

    site = Site(nginx=nginx, upstreams=(), gate=Gate(), watch=Watch())
    return app.serve_site("init", Common(config=out, as_json=as_json), site, act=act)
