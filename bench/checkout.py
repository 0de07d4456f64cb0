"""Imported first by every bench: it makes `python bench/NAME.py` work in a checkout, with any python."""

import importlib.util
import os
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
_PYTHON = _ROOT / ".venv/bin/python"

if importlib.util.find_spec("msgspec") is None:
    if not _PYTHON.exists() or Path(sys.executable) == _PYTHON:
        sys.exit("the packages of upswitch are missing: run scripts/setup test")
    os.execv(_PYTHON, (str(_PYTHON), *sys.argv))
sys.path += [str(_ROOT / "src"), str(_ROOT / "tests/lab")]
