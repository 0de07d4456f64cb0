"""mkdocs' hook for the documentation site: pages made from the code, pages from outside docs/, and links between all of them.

A page keeps its address in the repository: `docs/tour.md` is `tour.md` of the site, `playbooks/incident/held.md` is itself.
"""

import json
import posixpath
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from upswitch.cli.exit_codes import Exit
from upswitch.cli.main import GROUPS, group
from upswitch.cli.options import Documented
from upswitch.cli.views.codes import page_of
from upswitch.diagnose.causes import catalogue as causes
from upswitch.lint.catalogue import catalogue as rules
from upswitch.site.schema import schema

ROOT = Path(__file__).parents[1]
INCIDENT = "playbooks/incident"
OUTSIDE = {"README.md": "index.md"} | {name: name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "playbooks/README.md")}
OUTSIDE |= {f"{INCIDENT}/{path.name}": f"{INCIDENT}/{path.name}" for path in sorted((ROOT / INCIDENT).glob("*.md"))}
"""Pages that do not lie in docs/, each with its address in the site."""

_LINK = re.compile(r"(!?)\[([^\]]+)\]\((?!\w+:|#)([^)#\s]+)(#[^)\s]*)?\)")
_ROW = re.compile(r"^\|.*", re.MULTILINE)
_PATH = re.compile(r"(?:docs/)?[\w-]+\.md")
_COMMENT = re.compile(r"\s+#\s+(.*)$")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fill the lists of the navigation that are made here."""
    incidents = [f"{INCIDENT}/README.md", *(name for name in OUTSIDE if name.startswith(INCIDENT) and "README" not in name)]
    lists = {
        "When something fails": incidents,
        "Commands": _addresses("commands", (name for each in GROUPS.values() for name in each)),
        "Causes of 502s": _addresses("causes", sorted(causes().causes)),
        "Rules of lint": _addresses("rules", sorted(rules())),
    }
    _fill(config.nav, lists)
    return config


def _addresses(folder: str, names: Iterator[str] | list[str]) -> list[str]:
    return [f"reference/{folder}/{name}.md" for name in ("index", *names)]


def _fill(nav: list, lists: Mapping[str, list[str]]) -> None:
    for entry in nav:
        for title, inside in entry.items() if isinstance(entry, dict) else ():
            if title in lists:
                entry[title] = lists[title]
            elif isinstance(inside, list):
                _fill(inside, lists)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what does not lie in docs/."""
    texts = {address: (ROOT / source).read_text("utf-8") for source, address in OUTSIDE.items()} | dict(_made())
    for address, text in texts.items():
        files.append(File.generated(config, address, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links of the repository as links of the site. What the site has no page for is named, and not linked."""
    del config
    here = next((source for source, address in OUTSIDE.items() if address == page.file.src_uri), f"docs/{page.file.src_uri}")

    def linked(match: re.Match[str]) -> str:
        image, text, target, anchor = match.groups(default="")
        source = posixpath.normpath(posixpath.join(posixpath.dirname(here), target))
        address = OUTSIDE.get(source, source.removeprefix("docs/"))
        if source == "playbooks":
            address = "playbooks/README.md"
        if files.get_file_from_path(address) is None and (ROOT / source).exists():
            return text if text.startswith("`") else f"{text} (`{source}`)" if text != source else f"`{source}`"
        if _PATH.fullmatch(text):
            text = _title(source)
        return f"{image}[{text}]({posixpath.relpath(address, posixpath.dirname(page.file.src_uri) or '.')}{anchor})"

    return _ROW.sub(_plain_pipes, _LINK.sub(linked, markdown))


def _plain_pipes(row: re.Match[str]) -> str:
    """GitHub wants a backslash before a pipe in a cell's code, mkdocs none."""
    return re.sub(r"`[^`]+`", lambda code: code[0].replace("\\|", "|"), row[0])


def _title(source: str) -> str:
    return (ROOT / source).read_text("utf-8").partition("\n")[0].strip("# ")


def _made() -> Iterator[tuple[str, str]]:
    yield "reference/exit-codes.md", _exit_codes()
    yield "reference/site-keys.md", _site_keys()
    yield from _commands()
    of_causes = {code: cause.why for code, cause in causes().causes.items()}
    yield from _codes("causes", "Causes of 502s", "`upswitch diagnose` tells these causes apart.", of_causes)
    of_rules = {code: (page_of(code) or "").partition("What happens: ")[2].partition("\n")[0] for code in rules()}
    yield from _codes("rules", "Rules of lint", "`upswitch lint` finds these. Words in capitals are your own names.", of_rules)


def _codes(folder: str, title: str, says: str, codes: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    rows = (f"| [{code}]({code}.md) | {_cell(why)} |" for code, why in sorted(codes.items()))
    head = f"# {title}\n\n{says} `upswitch help CODE` prints the page of a code.\n\n"
    yield f"reference/{folder}/index.md", head + "\n".join(["| code | what happens |", "|---|---|", *rows])
    for code in codes:
        yield f"reference/{folder}/{code}.md", re.sub(r"\bdocs/([\w-]+)\.md", r"[\1](../../\1.md)", page_of(code) or "")


def _exit_codes() -> str:
    rows = (f"| {code.value} | {code.name} | {code.meaning} | {_incident(code)} |" for code in Exit)
    more = f"[Which page?](../{INCIDENT}/README.md) says in what state production is after each of them."
    return "\n".join(["# Exit codes", "", more, "", "| exit | name | meaning | what to do |", "|---|---|---|---|", *rows])


def _incident(code: Exit) -> str:
    name = code.name.lower().replace("_", "-")
    return f"[{name}](../{INCIDENT}/{name}.md)" if (ROOT / INCIDENT / f"{name}.md").exists() else ""


def _commands() -> Iterator[tuple[str, str]]:
    above = click.Context(group, info_name="upswitch", **group.context_settings)
    lines = ["# Commands", "", "`upswitch COMMAND --help` prints the page of a command."]
    for title, commands in GROUPS.items():
        rows = (f"| [{name}]({name}.md) | {_cell(says)} |" for name, says in commands.items())
        lines += ["", f"## {title}", "", "| command | what it does |", "|---|---|", *rows]
        for name in commands:
            command = group.get_command(above, name)
            assert isinstance(command, Documented)
            yield f"reference/commands/{name}.md", _command(click.Context(command, parent=above, info_name=name), command)
    yield "reference/commands/index.md", "\n".join(lines)


def _command(ctx: click.Context, command: Documented) -> str:
    records = filter(None, (param.get_help_record(ctx) for param in command.get_params(ctx)))
    options = [f"| `{name}` | {_cell(says)} |" for name, says in records if says]
    examples = [line for words, says in command.examples for line in (f"{says}", "", f"    {words}", "")]
    more = ["", f"More: `upswitch help {command.page}`"] if command.page else []
    about = [" ".join(each.split()) for each in (command.help or "").split("\n\n")]
    usage = f"    {ctx.command_path} {' '.join(command.collect_usage_pieces(ctx))}"
    table = ["## Options", "", "| option | what it does |", "|---|---|", *options, ""]
    return "\n".join([f"# {ctx.info_name}", "", usage, "", "\n\n".join(about), "", *table, "## Examples", "", *examples, *more])


def _site_keys() -> str:
    """Keys, kinds and defaults are those of the types that a site file is read into; the meaning is the comment of the example."""
    says = _said()
    lines = [
        "# Keys of the site file",
        "",
        "Made from the types that a site file is read into. A whole example is [The site file](../site-file.md).",
    ]
    for name, table in _tables(schema()):
        rows = (
            f"| `{key}` | {_named(_cell(says.get((name, key), '')))} | {_kind(each)} | {_default(each)} |"
            for key, each in table["properties"].items()
            if not _is_shown_apart(name, each)
        )
        title = f"`{'[[notify]]' if name == 'notify' else f'[{name}]'}`" if name else "At the top"
        lines += ["", f"## {title}", "", "| key | meaning | kind | default |", "|---|---|---|---|", *rows]
    return "\n".join(lines)


def _tables(top: dict) -> Iterator[tuple[str, dict]]:
    """By its name in the file: each table."""
    upstream = top["properties"]["upstreams"]["additionalProperties"]
    host = top["properties"]["hosts"]["additionalProperties"]["oneOf"][1]
    yield "", top
    for name, table in top["properties"].items():
        if name == "upstreams":
            yield "upstreams.NAME", upstream
            yield "upstreams.NAME.check", upstream["properties"]["check"]
        elif name == "hosts":
            yield "hosts.NAME", host
        elif "properties" in table.get("items", table):
            yield name, table.get("items", table)


def _is_shown_apart(table: str, each: dict) -> bool:
    """Whether a key has a table of its own on the page."""
    return "properties" in each.get("items", each) or (not table and "additionalProperties" in each)


def _kind(each: dict) -> str:
    words = [*map(str, each.get("enum", ())), *map(str, each.get("items", {}).get("enum", ()))]
    if words:
        return ("list of " if "items" in each else "") + ", ".join(f"`{word}`" for word in words)
    if "pattern" in each:
        return "duration"
    if "oneOf" in each:
        return " or ".join(dict.fromkeys(map(_kind, each["oneOf"])))
    names = {"string": "text", "array": "list", "boolean": "`true`, `false`", "integer": "whole number", "object": "table"}
    return names.get(each.get("type", ""), "")


def _default(each: dict) -> str:
    return f"`{json.dumps(each['default'])}`" if each.get("default", "") != "" else ""


def _said() -> dict[tuple[str, str], str]:
    """By table and key: the comment behind the key in the example of docs/site-file.md."""
    table, found = "", dict[tuple[str, str], str]()
    example = (ROOT / "docs" / "site-file.md").read_text("utf-8").partition("```toml\n")[2].partition("```")[0]
    for line in example.splitlines():
        if header := re.match(r"(?:# )?\[+([\w.]+)\]", line):
            table = re.sub(r"^upstreams\.\w+", "upstreams.NAME", header[1])
        elif (key := re.match(r"(?:# )?(\w+) *=", line)) and (comment := _COMMENT.search(line)):
            place = ("hosts.NAME", "ssh") if table == "hosts" else (table, key[1])
            found.setdefault(place, comment[1])
        elif (comment := re.match(r" +# (.*)", line)) and table != "gate":
            found[[*found][-1]] += f" {comment[1]}"
    return found


def _named(text: str) -> str:
    """Text with a link for each page of docs/ that it names."""
    return re.sub(r"(?:docs/)?\b([\w-]+)\.md\b", lambda name: f"[{_title(f'docs/{name[1]}.md')}](../{name[1]}.md)", text)


def _cell(text: str) -> str:
    """Text in a cell of a table."""
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
