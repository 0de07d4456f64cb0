"""The modules of src, read once for all tests of one process."""

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@cache
def sources() -> dict[str, ast.Module]:
    """Path, from the root of the checkout, -> syntax tree."""
    return {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text("utf-8")) for path in sorted(ROOT.glob("src/**/*.py"))}
