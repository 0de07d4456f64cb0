"""`upswitch help TOPIC`: prints a packaged page, or explains a code of `diagnose` or `lint`; without a topic, lists the pages."""

import re
from pathlib import Path

import click

from upswitch.cli.main import COMMANDS, group
from upswitch.cli.options import Documented
from upswitch.cli.views.codes import page_of
from upswitch.diagnose.causes import catalogue as causes
from upswitch.lint.catalogue import catalogue as rules

DOCS = (
    "concepts",
    "tour",
    "comparison",
    "debian",
    "containers",
    "php-fpm",
    "gunicorn",
    "node",
    "check-modules",
    "several-sites",
    "fleet",
    "pipelines",
    "restricted-mode",
    "notices",
    "monitoring",
    "requests-not-lost",
    "watch",
    "site-file",
    "lint",
    "environment",
    "json",
    "reliability",
)
"""The pages of docs/ that an operator needs beside those of playbooks/incident/."""


def _topics(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    del ctx, param
    return [topic for topic in (*pages(), *COMMANDS, *causes().causes, *rules()) if topic.startswith(incomplete)]


@click.command(
    "help",
    cls=Documented,
    examples=[
        ("upswitch help", "List the pages of the manual."),
        ("upswitch help incident", "Find the page of an exit code."),
        ("upswitch help connect_refused", "Explain what `diagnose` found."),
        ("upswitch help rollback", "The same as `upswitch rollback --help`."),
    ],
)
@click.argument("topic", default="", shell_complete=_topics)
def help(topic: str) -> int:  # noqa: A001  (the command's name)
    """Print a page of the manual, or the help of a command.

    Without TOPIC, list the pages. Incident pages say what to do after an exit code, and when clients get 502s.
    TOPIC may also be a code that `diagnose` or `lint` prints, such as connect_refused or max_fails_one.
    """
    found = pages()
    if not topic:
        click.echo(_list(found))
    elif topic in found:
        click.echo(text_of(found[topic]))
    elif page := page_of(topic):
        click.echo(page)
    elif command := group.get_command(click.Context(group), topic):
        above = click.get_current_context().parent
        click.echo(command.get_help(click.Context(command, parent=above, info_name=topic)))
    else:
        said = f"no page {topic!r}. Topics: {', '.join(found)}, a command, or a code that `diagnose` or `lint` prints"
        raise click.BadParameter(said, param_hint="TOPIC")
    return 0


def pages() -> dict[str, Path]:
    """Each topic's file. In a wheel docs/ and playbooks/ lie beside this package, in a checkout at its top."""
    package = Path(__file__).resolve().parents[2]
    top = package if (package / "playbooks").is_dir() else package.parents[1]
    incidents = top / "playbooks" / "incident"
    found = {"incident": incidents / "README.md"} | {path.stem: path for path in sorted(incidents.glob("[!R]*.md"))}
    return found | {name: top / "docs" / f"{name}.md" for name in DOCS}


def text_of(page: Path) -> str:
    """The page without its comments, which are for the tests."""
    return re.sub(r"<!--.*?-->\n", "", page.read_text("utf-8")).rstrip()


def _list(found: dict[str, Path]) -> str:
    width = max(map(len, found))
    titles = {topic: path.read_text("utf-8").partition("\n")[0].strip("# ") for topic, path in found.items()}
    lines = [f"  {topic:{width}}  {title}" for topic, title in titles.items()]
    codes = "`upswitch help CODE` explains what `diagnose` or `lint` found, such as connect_refused or max_fails_one."
    commands = "`upswitch help COMMAND` prints what `upswitch COMMAND --help` prints."
    return "\n".join(["`upswitch help TOPIC` prints one of these pages:", *lines, codes, commands])
