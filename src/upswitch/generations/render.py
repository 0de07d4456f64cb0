"""From a site to the files of one generation.

A template is code, ours or from a path that the owner named. It runs in a sandbox, an undefined name is an error, and values reach
it as variables only, never as template text (reliability.md S2, F30). The result is read back: a template that does not give
exactly the servers of the site is refused before nginx sees it. limited.py runs an owner's template with limits.
"""

import re
from collections.abc import Callable, Mapping

from jinja2 import FunctionLoader, StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from msgspec.structs import asdict

from upswitch.generations.check_lines import check_lines, trusted
from upswitch.generations.generation import MARKER, STANDBY, File, Rendering
from upswitch.nginx.statements import StatementError, statements
from upswitch.site.model import Dialect, Server, Site, Upstream

MARKER_TEMPLATE = "marker.conf.j2"
STANDBY_TEMPLATE = "standby.conf.j2"

# What a template can raise while it runs: jinja2's own errors, and Python's for its arithmetic and its lookups.
_TEMPLATE_FAULTS = (TemplateError, ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)
_SAFE = re.compile(r"[A-Za-z0-9_./@:+,=-]*")
# nginx and our lexer split these differently: white space that nginx does not know, control characters, ${.
_AMBIGUOUS = re.compile(r"[^\S \t\r\n]|[\x00-\x08\x0e-\x1f\x7f]|\$\{")


Run = Callable[[str, Mapping[str, str], Mapping[str, object]], str]
"""Renders the template of this name. It gets the texts of all templates, and the variables. RenderError."""


class RenderError(Exception):
    """`template` failed, or its result is not what the site asks for. `why` names the line where one is known."""

    def __init__(self, template: str, why: str) -> None:
        super().__init__(f"{template}: {why}")
        self.template = template
        self.why = why


def rendered(template: str, templates: Mapping[str, str], values: Mapping[str, object]) -> str:
    """A `Run` without limits, for our own templates."""
    try:
        return _environment(templates).get_template(template).render(values)
    except _TEMPLATE_FAULTS as exc:
        raise RenderError(template, _why(exc, template)) from exc


def render(site: Site, rendering: Rendering, templates: Mapping[str, str], *, run: Run = rendered) -> tuple[File, ...]:
    """The files of a generation: NAME.conf for every upstream, standby.conf if there are standbys, and marker.conf.

    `templates` are texts by name. `run` renders those of the upstreams, which may be an owner's. RenderError: a template is wrong.
    KeyError: the site has no such pool.
    """
    files = [_upstream(upstream, rendering, templates, run) for upstream in site.upstreams]
    return (*files, *render_ours(site, rendering, templates))


def render_ours(site: Site, rendering: Rendering, templates: Mapping[str, str]) -> tuple[File, ...]:
    """The files without the upstreams', for a generation whose upstream files are the owner's or a former generation's."""
    for text in (
        rendering.generation,
        rendering.pool,
        rendering.min_timeout,
        rendering.drain_flag,
        rendering.check_shm_size,
        rendering.prefix,
    ):
        if not _SAFE.fullmatch(text):
            raise RenderError(MARKER_TEMPLATE, f"{text!a} has a character that may not reach nginx")
    values = {**asdict(rendering), "listen": site.nginx.marker, "check_status": rendering.dialect is not Dialect.NONE}
    marker = File(name=MARKER, text=rendered(MARKER_TEMPLATE, templates, values))
    return (_standby(rendering, templates), marker) if rendering.standbys else (marker,)


def _standby(rendering: Rendering, templates: Mapping[str, str]) -> File:
    found = [
        {"name": each.name, "addresses": each.addresses, "checks": check_lines(each.check, rendering.dialect)}
        for each in rendering.standbys
    ]
    values = {"standbys": found, "generation": rendering.generation}
    return File(name=STANDBY, text=rendered(STANDBY_TEMPLATE, templates, values))


def _environment(templates: Mapping[str, str]) -> ImmutableSandboxedEnvironment:
    def load(name: str) -> tuple[str, str, None] | None:
        # The template's name is its file name, so that a traceback tells its lines from Python's.
        return (templates[name], name, None) if name in templates else None

    return ImmutableSandboxedEnvironment(
        loader=FunctionLoader(load),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # nginx's syntax, not HTML; the text is read back below
    )


def _upstream(upstream: Upstream, rendering: Rendering, templates: Mapping[str, str], run: Run) -> File:
    servers = upstream.servers(rendering.pool)
    checks = check_lines(trusted(upstream.check), rendering.dialect)
    values = {
        "name": upstream.name,
        "servers": tuple(server.text for server in servers),
        "directives": upstream.directives,
        "checks": checks,
        "generation": rendering.generation,
        "pool": rendering.pool,
    }
    text = run(upstream.template, templates, values)
    try:
        _read_back(text, upstream.name, servers=servers, checks=checks)
    except ValueError as exc:
        raise RenderError(upstream.template, str(exc)) from exc
    return File(name=f"{upstream.name}.conf", text=text)


def _why(exc: BaseException, template: str) -> str:
    """The error, with the line of the template where Python or jinja2 knows it."""
    line = getattr(exc, "lineno", None)
    trace = exc.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == template:
            line = trace.tb_lineno
        trace = trace.tb_next
    where = f"line {line}: " if line else ""
    return f"{where}{type(exc).__name__}: {exc}"


def _read_back(text: str, name: str, *, servers: tuple[Server, ...], checks: tuple[str, ...]) -> None:
    """ValueError unless `text` is one upstream block that holds exactly `servers`, and exactly the lines `checks`."""
    found = _AMBIGUOUS.search(text)
    if found:
        raise ValueError(f"an upstream file may not hold {found[0]!a}")
    try:
        blocks = statements(text)
    except StatementError as exc:
        raise ValueError(f"it does not give nginx syntax: {exc}") from exc
    if [each.words for each in blocks] != [("upstream", name)] or blocks[0].block is None:
        raise ValueError(f"it does not give exactly one block `upstream {name} {{ ... }}`")
    inside = blocks[0].block
    if any(each.block is not None for each in inside):
        raise ValueError("it gives a block inside the upstream block")
    lines_inside = [each.words for each in inside]
    if any(words[0] == "include" for words in lines_inside):
        raise ValueError("it gives an include inside the upstream block, which can hide servers")
    wanted = [("server", *server.text.split(" ")) for server in servers]
    if [words for words in lines_inside if words[0] == "server"] != wanted:
        raise ValueError(f"its server lines are not the {len(wanted)} of the pool, in their order")
    wanted = [each.words for each in statements("".join(f"{line};" for line in checks))]
    if [words for words in lines_inside if words[0].startswith("check")] != wanted:
        lines = "{% for line in checks %}{{ line }};{% endfor %}"
        raise ValueError(f"its check lines are not those of the site file; write {lines} into its upstream block")
