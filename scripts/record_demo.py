"""Make docs/demo.svg, the terminal picture of the README, from a real run of the demo.

    .venv/bin/python scripts/record_demo.py [--chapters "2. 3."]

It shows the named chapters, stdout and stderr as a terminal would mix them, and the table at the end.
"""

import argparse
import io
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.text import Text

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "demo.svg"
COLUMNS = 112
DATE = re.compile(r"^\d{4}-\d\d-\d\dT(\d\d:\d\d:\d\d)\.\d+Z ")
STYLES = (
    (re.compile(r"^\$ .*"), "bold white"),
    (re.compile(r"^== .*"), "bold cyan"),
    (re.compile(r"\bROLLED BACK to .*?\)"), "bold yellow"),
    (re.compile(r"^SWITCHED .*?\)"), "bold green"),
    (re.compile(r"\b(FAILED|ROLLBACK)\b"), "bold red"),
    (re.compile(r"^\d\d:\d\d:\d\d\b"), "dim"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chapters", default="3.", help="the beginnings of the headings to show, default %(default)r")
    chapters = tuple(parser.parse_args().chapters.split())
    argv = (sys.executable, "-u", "-P", "-m", "upswitch", "demo")
    ran = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True)
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text("$ upswitch demo", "bold white"))
    for line in chosen(ran.stdout.splitlines(), chapters):
        console.print(styled(DATE.sub(r"\1 ", line)))
    svg = re.sub(r",\s*url\([^)]*\) format\(\"woff2?\"\)", "", console.export_svg(title="upswitch demo"))  # no font from the net
    PICTURE.write_text(svg, "utf-8")
    print(f"{PICTURE} is made")


def chosen(lines: list[str], chapters: tuple[str, ...]) -> Iterator[str]:
    """The lines of the chapters, and the table that ends with an empty line."""
    is_shown, is_left_out = False, True
    for line in lines:
        if line.startswith("== "):
            heading = line.removeprefix("== ")
            is_shown = heading.startswith((*chapters, "The whole story"))
        elif line.startswith("$ upswitch history"):
            return
        if is_shown:
            is_left_out = True
            yield line
        elif is_left_out:
            is_left_out = False
            yield "…"


def styled(line: str) -> Text:
    text = Text(line)
    for pattern, style in STYLES:
        text.highlight_regex(pattern, style)
    return text


if __name__ == "__main__":
    main()
