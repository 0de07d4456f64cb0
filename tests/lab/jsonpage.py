"""The keys that docs/json.md documents for each object."""

import re
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs" / "json.md").read_text()


def documented(name: str) -> set[str]:
    section = re.search(rf"^## {name}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    assert section, f"docs/json.md has no section {name}"
    first_cells = re.findall(r"^\| (`[^|]*`) \|", section[1], re.MULTILINE)
    return {key for cell in first_cells for key in re.findall(r"`(\w+)`", cell)}
