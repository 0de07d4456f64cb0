import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from msgspec.structs import replace

from upswitch.basics.errors import HostError
from upswitch.cli import site_files, streams
from upswitch.cli.exit_codes import Exit
from upswitch.cli.invocation import Common, json_option
from upswitch.cli.options import Documented
from upswitch.cli.program import Program, live, with_program
from upswitch.cli.site_files import SiteFile
from upswitch.cli.views import View
from upswitch.cli.views.plan import FoundView, InitView, LogView
from upswitch.generations import templates
from upswitch.hosts.clock import SystemClock
from upswitch.hosts.local import opened
from upswitch.hosts.local.host import LocalHost
from upswitch.site import names
from upswitch.site.model import Gate, Nginx, Site, Watch
from upswitch.switch.session import Session

if TYPE_CHECKING:
    from upswitch.init.found import FoundUpstream

_NGINX = Nginx()
_KEPT = ("conf", "binary", "prefix", "container", "dir", "state", "marker", "drain_flag", "user")


def _name(name: str, source: str, upstreams: tuple[str, ...], pool: str) -> str:
    """The site's name: as given, else by its first upstream; "" where the file can't be read, which is refused later."""
    from upswitch.init.adopt import first_upstream, made_name
    from upswitch.init.pools import without_pool

    if name and not names.is_name(name):
        raise click.BadParameter(f"{name!a} {names.SAYS}", param_hint="--name")
    if name:
        return name
    if upstreams:
        return names.default_name(made_name(without_pool(upstreams[0], pool) or upstreams[0]))
    try:
        with opened.text(source, errors="replace") as file:
            upstream = first_upstream(file.read())
    except OSError:
        return ""
    return names.default_name(upstream) if upstream else ""


def _out(out: str, name: str) -> SiteFile:
    """The site file to write: as given, else in the folder of all sites; where the user can't write there, in this folder."""
    if not out and name and _is_writable(site_files.folder()):
        return SiteFile(path=site_files.path_of(name), words=("-s", name))
    path = os.path.abspath(out or site_files.HERE)
    return SiteFile(path=path, words=("-c", path) if path != os.path.abspath(site_files.HERE) else ())


def _with_path(other: str) -> str:
    """`--other` with the absolute path of the file that it names."""
    name, equals, value = ("", "", other) if os.path.isfile(other) else other.rpartition("=")
    return f"{name}{equals}{os.path.abspath(value)}" if os.path.isfile(value) else other


def _is_writable(folder: str) -> bool:
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    return os.access(folder, os.W_OK)


@click.command(
    cls=Documented,
    page="site-file",
    examples=[
        ("upswitch init", "List what nginx passes requests to."),
        ("upswitch init --upstream app --pool A --other B=127.0.0.1:8002", "Show every change that this needs."),
        ("upswitch init --upstream app --pool A --apply", "Make the change."),
    ],
)
@json_option
@click.option("--from", "source", default="", metavar="FILE", help="The file that contains the upstream blocks now.")
@click.option(
    "--upstream",
    "upstreams",
    multiple=True,
    metavar="NAME",
    help="An upstream of nginx, or an address that a pass names itself. May be repeated.",
)
@click.option("--pool", default="", metavar="NAME", help="A name for the pool that is live now: A, blue.")
@click.option(
    "--other",
    "others",
    multiple=True,
    metavar="WHAT",
    help="The other pool: a file, an upstream, or servers separated by commas. NAME=WHAT names the pool, or one of the upstreams.",
)
@click.option("-s", "--name", default="", metavar="NAME", help="A name for the site.  [default: that of its first upstream]")
@click.option("--nginx-conf", "conf", default=_NGINX.conf, show_default=True, metavar="FILE", help="nginx's main configuration.")
@click.option("--binary", default=_NGINX.binary, show_default=True, metavar="PATH", help="The nginx program.")
@click.option("--prefix", default="", metavar="FOLDER", help="What `nginx -p` needs, if anything.")
@click.option("--container", default="", metavar="NAME", help="The container that nginx runs in; all paths are its own.")
@click.option("--dir", default="", metavar="FOLDER", help="Where generations will be kept.  [default: /etc/nginx/upswitch-NAME]")
@click.option("--state", default="", metavar="FOLDER", help="Where lock and journal will be.  [default: /var/lib/upswitch-NAME]")
@click.option(
    "--marker", default="", metavar="ADDRESS", help="Where nginx will report its generation.  [default: a loopback address]"
)
@click.option(
    "--drain-flag", default=_NGINX.drain_flag, show_default=True, metavar="FILE", help="The file that the drain lines test."
)
@click.option(
    "--user", default=_NGINX.user, show_default=True, metavar="NAME", help="The user that nginx's master process runs as."
)
@click.option("-c", "--out", default="", metavar="FILE", help="The site file to write.  [default: /etc/upswitch/NAME.toml]")
@click.option("--apply", "is_applied", is_flag=True, help="Make the change: back up, test, reload, prove; undo it on failure.")
@click.option("--drain-lines", "drain_lines", is_flag=True, help="Write the drain lines for nginx before 1.27.4 too.")
@click.option("--log", "log", flag_value="always", help="Give the watch a log of its own beside yours, also where nothing cuts it.")
@click.option(
    "--no-log",
    "log",
    flag_value="no",
    default="where bounded",
    help="Give it none.  [default: one where yours lacks something, if cron or systemd runs]",
)
@with_program
def init(program: Program, /, *, as_json: bool, is_applied: bool, **words: Any) -> int:
    """Put an nginx under upswitch: show every change, or make it.

    Without options it lists what nginx passes requests to, and on a terminal it asks. Without --apply, nothing is changed. Each
    application of this nginx can be a site of its own: run init once for each. With only the name or the file of a site that is
    managed already, it adds the log for the watch.
    """
    if not words["source"] and not words["upstreams"]:
        if (words["name"] or words["out"]) and os.path.isfile((file := site_files.find(words["out"], words["name"])).path):
            return _add_log(program, Common(file=file, as_json=as_json), words["log"], is_applied=is_applied)
        answers = _listed(program, words, as_json=as_json)
        if isinstance(answers, int):
            return answers
        words |= answers
        given = click.get_current_context().get_parameter_source("drain_lines")
        words |= {"drain_lines": True} if given is ParameterSource.DEFAULT else {}
        code = _init(program, words, as_json=as_json, is_applied=False, is_asked=True)
        if code != Exit.DONE or not click.confirm("Make this change now?"):
            return code
        return _init(program, words, as_json=as_json, is_applied=True, is_asked=True)
    return _init(program, words, as_json=as_json, is_applied=is_applied)


def _add_log(program: Program, common: Common, log: str, *, is_applied: bool) -> int:
    from upswitch.init import add_log as adding
    from upswitch.init.own_log import WantsLog

    wanted = WantsLog(log)

    def act(session: Session) -> View:
        proposal = adding.propose_log(session.ports, session.site, wanted)
        if not is_applied or not proposal.own_log.edits:
            return LogView(command="init", exit=Exit.DONE, proposal=proposal)
        done = adding.add_log(session.ports, session.site, wanted, session.owner("init: a log for the watch"))
        now = replace(live(session), is_failing=bool(done.unserved))
        exit_ = Exit.FINDINGS if done.unserved else Exit.DONE
        return LogView(command="init", exit=exit_, proposal=proposal, done=done, production=now, words=common.file.words)

    return program.serve("init", common, act)


def _listed(program: Program, words: Mapping[str, Any], *, as_json: bool) -> dict[str, Any] | int:
    """List what nginx passes requests to. The answers of a person on a terminal, else the exit code."""
    from upswitch.init import found

    nginx = replace(_NGINX, **{key: words[key] for key in ("conf", "binary", "prefix", "container", "user") if words[key]})
    nginx = _in_mount(nginx, words)
    seen: list[found.FoundUpstream] = []
    is_asked = not as_json and sys.stdin.isatty() and os.isatty(streams.STDOUT)

    def act(session: Session) -> View:
        seen.extend(found.look(session.ports.host, nginx))
        return FoundView(command="init", exit=Exit.DONE, upstreams=tuple(seen), words=_kept(words), is_asked=is_asked)

    site = Site(nginx=nginx, upstreams=(), gate=Gate(), watch=Watch())
    code = program.serve_site("init", Common(file=SiteFile(path=site_files.HERE), as_json=as_json), site, act=act)
    free = [each for each in seen if not each.is_managed]
    if code != Exit.DONE or not free or not is_asked:
        return code
    click.echo("Which one? Its number (1,2 for two that are switched together), or 0 for none")  # too long for a line of readline's
    numbers = click.prompt("Number", value_proc=lambda text: _numbers(text, most=len(seen)), default="0")
    if not numbers:
        return code
    chosen = [seen[number - 1] for number in numbers]
    pool = click.prompt("A name for the pool that is live now", default=chosen[0].pool or "A")
    others = [_asked_other(each, among=len(chosen)) for each in chosen]
    return {"upstreams": tuple(each.name for each in chosen), "pool": pool, "others": (*filter(None, others), *words["others"])}


def _numbers(text: str, *, most: int) -> list[int]:
    words = text.replace(",", " ").split()
    numbers = [int(word) for word in words if word.isdecimal() and int(word) <= most]
    if not words or len(numbers) != len(words):
        raise click.BadParameter(f"{text!a} must be numbers from 0 to {most}, with commas between them")
    return list(dict.fromkeys(number for number in numbers if number))


def _asked_other(chosen: "FoundUpstream", *, among: int) -> str:
    """The value of `--other` for one upstream; "" where init finds its other pool by the names."""
    found = ", ".join(chosen.others)
    click.echo(f"The other pool of {chosen.name}: servers, a file or an upstream; empty for {found or 'none'}")
    other = click.prompt("Other pool", default="", show_default=False)
    if other:
        return f"{chosen.name}={other}" if among > 1 else str(other)
    return chosen.other(among=among)[-1] if chosen.other(among=among) else ""


def _in_mount(nginx: Nginx, words: Mapping[str, Any]) -> Nginx:
    """With the folders that were not given in one that outlives the container that `nginx` names."""
    if not nginx.container:
        return nginx
    from upswitch.hosts.container import engine

    try:
        found = engine.find(LocalHost(SystemClock()).run, nginx.container)
    except HostError as exc:
        raise click.BadParameter(str(exc), param_hint="--container") from exc
    mount = found.folder_for(nginx.conf, is_file=lambda path: os.path.exists(path) and not os.path.isdir(path))
    if not mount and not (words["dir"] and words["state"]):
        what = f"no folder that nginx can use outlives this container (its mounts: {found.shown_mounts})"
        fix = f"run it with a folder of the machine mounted: -v /srv/{nginx.container}:/etc/nginx/upswitch"
        raise click.BadParameter(f"{what}; {fix}", param_hint="--container")
    folder = f"{mount}/{os.path.basename(nginx.dir)}"
    return replace(nginx, dir=words["dir"] or folder, state=words["state"] or f"{folder}-state")


def _kept(words: Mapping[str, Any]) -> tuple[str, ...]:
    """The options that a further init needs too, as they were given."""
    given = {key: words[key] for key in _KEPT if words[key] != getattr(_NGINX, key) and words[key]}
    names = {param.name: param.opts[-1] for param in init.params}
    return tuple(word for key, value in given.items() for word in (names[key], value))


def _init(program: Program, given: Mapping[str, Any], *, as_json: bool, is_applied: bool, is_asked: bool = False) -> int:
    from upswitch.init import adopt, apply, propose
    from upswitch.init.own_log import WantsLog

    words = dict(given)
    name = _name(words.pop("name"), words["source"], words["upstreams"], words["pool"])
    file = _out(words.pop("out"), name)
    asked = {key: words.pop(key) for key in ("pool", "upstreams", "drain_lines")}
    asked["log"] = WantsLog(words.pop("log"))
    source, others = words.pop("source"), words.pop("others")
    if not asked["pool"]:
        raise click.UsageError("--pool is missing: give the pool that is live now a name, such as --pool blue")
    nginx = replace(names.own(name, _NGINX), **{key: value for key, value in words.items() if value})
    nginx = _in_mount(nginx, words)
    request = adopt.InitRequest(
        from_path=os.path.abspath(source) if source else "",
        others=tuple(map(_with_path, others)),
        nginx=nginx,
        out=file.path,
        name=name,
        **asked,
    )

    def act(session: Session) -> View:
        proposal = propose.propose(session.ports, request, templates.load(session.site))
        site_files.refuse_shared(proposal.site, file.path)
        if not is_applied:
            return InitView(command="init", exit=Exit.DONE, proposal=proposal, is_asked=is_asked)
        done = apply.apply(session.ports, proposal, session.owner(f"init of {request.pool}"))
        exit_ = Exit.FINDINGS if done.unserved else Exit.DONE
        now = replace(live(session), is_failing=bool(done.unserved))
        return InitView(
            command="init", exit=exit_, proposal=proposal, done=done, production=now, words=file.words, is_asked=is_asked
        )

    site = Site(nginx=nginx, upstreams=(), gate=Gate(), watch=Watch())
    return program.serve_site("init", Common(file=file, as_json=as_json), site, act=act)
