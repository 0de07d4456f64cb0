"""Debian's Chromium without a screen, from scripts/setup: what a page looks like, and how many sheets it prints on."""

import os
import subprocess
from functools import cache
from pathlib import Path

LAB = Path(__file__).parents[2] / ".lab" / "chromium"
CHROMIUM = LAB / "usr/lib/chromium/chromium-headless-shell"
PDFTOTEXT = LAB / "usr/bin/pdftotext"
REASON = "no Chromium in .lab/chromium: run scripts/setup test on Debian"


def is_here() -> bool:
    return CHROMIUM.exists() and PDFTOTEXT.exists()


@cache
def _environment() -> dict[str, str]:
    folders = [str(path) for path in LAB.glob("**/lib/*-linux-gnu*") if path.is_dir()]
    inner = [str(path) for folder in folders for path in Path(folder).glob("*") if path.is_dir()]
    return os.environ | {"LD_LIBRARY_PATH": ":".join([*folders, *inner])}


def _run(*words: str | Path) -> bytes:
    return subprocess.run(words, env=_environment(), check=True, capture_output=True, timeout=60).stdout


def _browse(page: Path, *options: str) -> str:
    home = page.parent / "browser"
    argv = (CHROMIUM, "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={home}", *options, page.as_uri())
    return _run(*argv).decode()


def elements(page: Path, *, width: int, is_dark: bool = False) -> str:
    """The page's elements after its scripts have run, at a width in pixels."""
    return _browse(page, f"--window-size={width},2000", *_scheme(is_dark=is_dark), "--dump-dom")


def picture(page: Path, path: Path, *, width: int, is_dark: bool = False) -> bytes:
    """A PNG of it."""
    _browse(page, f"--window-size={width},2600", *_scheme(is_dark=is_dark), f"--screenshot={path}")
    return path.read_bytes()


def sheets(page: Path) -> list[str]:
    """The text of each sheet of A4 that it prints on."""
    printed = page.with_suffix(".pdf")
    _browse(page, "--no-pdf-header-footer", f"--print-to-pdf={printed}")
    return _run(PDFTOTEXT, "-layout", printed, "-").decode().split("\f")[:-1]


def _scheme(*, is_dark: bool) -> list[str]:
    return [f"--blink-settings=preferredColorScheme={0 if is_dark else 1}"]
