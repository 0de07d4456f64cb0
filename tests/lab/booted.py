"""A real systemd as the first process of namespaces of its own, with a real journald; its units are a test's."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

SYSTEMD = "/lib/systemd/systemd"
GROUPS = [Path("/sys/fs/cgroup") / name for name in ("systemd", "unified", "memory")]
BOOT = """
for group; do [ ! -d "${group%/*}" ] || { mkdir "$group" && echo 0 > "$group/cgroup.procs"; } || exit 77; done
echo 300M > "$3/memory.limit_in_bytes" || exit 77
exec unshare -m -p -f -C -u --propagation private --mount-proc --kill-child sh -c '
  mount -t tmpfs tmpfs /run && mkdir -p /run/log/journal && mount --bind "$1" /etc/systemd/system || exit 77
  mount -t tmpfs tmpfs /sys/fs/cgroup && mkdir /sys/fs/cgroup/systemd || exit 77
  mount -t cgroup -o none,name=systemd,xattr cgroup /sys/fs/cgroup/systemd || exit 77
  container=lab exec "$2" --system --show-status=0
' boot "$UNITS" "$SYSTEMD"
"""


def needs_systemd(test):
    """For a test that boots one."""
    has_groups = Path(SYSTEMD).exists() and GROUPS[0].exists()
    test = pytest.mark.skipif(not has_groups, reason="needs systemd, and its cgroups of version 1")(test)
    return pytest.mark.skipif(
        os.getuid() != 0 or not shutil.which("unshare"), reason="needs root and unshare, for a systemd of its own"
    )(test)


def boot(folder: Path, units: Mapping[str, str], words: Mapping[str, str]) -> Any:
    """Until a unit ends it, for a minute at most; the JSON that it has written to `folder`/out. Its stderr is `folder`/errors.

    `words` are replaced in the units.
    """
    ran, out, errors = _booted(folder, units, words), folder / "out", folder / "errors"
    if not out.exists() and not errors.exists():
        pytest.skip(f"no systemd can be started here: {ran.stdout + ran.stderr}")
    return json.loads(out.read_text()) if out.exists() else pytest.fail(errors.read_text())


def _booted(folder: Path, units: Mapping[str, str], words: Mapping[str, str]) -> subprocess.CompletedProcess[bytes]:
    place = folder / "units"
    place.mkdir()
    for name, text in units.items():
        (place / name).write_text(re.sub("|".join(words), lambda found: words[found[0]], text))
    groups = [each / f"upswitch-{os.getpid()}" for each in GROUPS]
    environment = {**os.environ, "UNITS": f"{place}", "SYSTEMD": SYSTEMD}
    try:
        argv = ["timeout", "-k", "1", "60", "sh", "-c", BOOT, "sh", *map(str, groups)]
        return subprocess.run(argv, check=False, capture_output=True, env=environment, stdin=subprocess.DEVNULL)
    finally:
        for group in groups:
            subprocess.run(["find", f"{group}", "-depth", "-type", "d", "-delete"], check=False, capture_output=True)
