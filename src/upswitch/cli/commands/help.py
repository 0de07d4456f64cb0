"""`upswitch help TOPIC`: prints a packaged page; without a topic, lists them."""

from pathlib import Path

import click

DOCS = ("site-file", "watch", "fleet", "reliability", "restricted-mode", "json")
"""The pages of docs/ that an operator needs beside those of playbooks/incident/."""


@click.command("help")
@click.argument("topic", default="")
def help(topic: str) -> int:  # noqa: A001  (the command's name)
    """Print a page of the manual.

    Without TOPIC, list the topics. Incident pages say what to do after an exit code, and when clients get 502s.
    """
    found = pages()
    if topic and topic not in found:
        raise click.BadParameter(f"no page {topic!r}. Topics: {', '.join(found)}", param_hint="TOPIC")
    click.echo(found[topic].read_text("utf-8").rstrip() if topic else _list(found))
    return 0


def pages() -> dict[str, Path]:
    """Each topic's file. In a wheel docs/ and playbooks/ lie beside this package, in a checkout at its top."""
    package = Path(__file__).resolve().parents[2]
    top = package if (package / "playbooks").is_dir() else package.parents[1]
    incidents = top / "playbooks" / "incident"
    found = {"incident": incidents / "README.md"} | {path.stem: path for path in sorted(incidents.glob("[!R]*.md"))}
    return found | {name: top / "docs" / f"{name}.md" for name in DOCS}


def _list(found: dict[str, Path]) -> str:
    width = max(map(len, found))
    titles = {topic: path.read_text("utf-8").partition("\n")[0].strip("# ") for topic, path in found.items()}
    lines = [f"  {topic:{width}}  {title}" for topic, title in titles.items()]
    return "\n".join(["`upswitch help TOPIC` prints one of these pages:", *lines])
