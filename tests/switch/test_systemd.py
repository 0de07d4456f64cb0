"""The dead-man where a real systemd runs: one is booted in namespaces of its own, and these tests' neighbours run inside."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from upswitch_lab.process import until

INIT = "/lib/systemd/systemd"
BOOT = """
mount -t tmpfs tmpfs /run && mkdir -p /run/lock || exit 1
export container=test SYSTEMD_UNIT_PATH="$1:/run/systemd/transient" SYSTEMD_GENERATOR_PATH=/nowhere
exec "$2" --system --unit=job.service --log-target=null --show-status=no
"""
JOB = """
[Service]
Type=oneshot
WorkingDirectory={here}
Environment={env}
ExecStart=/bin/sh -c '{words}; echo $? > {folder}/code'
StandardOutput=append:{folder}/out
StandardError=append:{folder}/out
"""
UNSHARED = ("unshare", "--mount", "--pid", "--ipc", "--uts", "--cgroup", "--fork", "--mount-proc", "--kill-child")


def under_systemd(folder: Path, *words: str) -> tuple[int, str]:
    """Exit code and output of a command that is a service of a systemd, which knows no unit but that and what it is asked for."""
    units = folder / "units"
    units.mkdir()
    for target in ("sysinit", "basic", "shutdown"):  # what every unit asks for; the machine's own would clean its /tmp
        (units / f"{target}.target").write_text("[Unit]\nDefaultDependencies=no\n")
    env = " ".join(f'"{name}={value}"' for name, value in os.environ.items() if name in {"PATH", "PYTHONPATH", "HOME"})
    (units / "job.service").write_text(JOB.format(here=Path.cwd(), env=env, words=" ".join(words), folder=folder))
    argv = (*UNSHARED, "sh", "-c", BOOT, "sh", f"{units}", INIT)
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, start_new_session=True) as machine:
        try:
            until(lambda: (folder / "code").exists() or machine.poll() is not None, deadline=60.0, what="the end of the job")
        finally:
            machine.kill()
    out = folder / "out"
    return int((folder / "code").read_text()), out.read_text() if out.exists() else ""


def can_boot() -> bool:
    if os.geteuid() != 0 or not all(map(shutil.which, (INIT, "systemd-run", "unshare"))):
        return False
    return subprocess.run((*UNSHARED, "mount", "-t", "tmpfs", "tmpfs", "/run"), capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not can_boot(), reason="booting a systemd needs root, and systemd")
def test_the_dead_man_is_a_unit_of_its_own_and_acts(tmp_path):
    tests = (
        f"{Path(__file__).with_name('test_deadman.py')}::test_under_systemd_{name}"
        for name in ("it_is_a_unit_that_acts_and_is_gone", "it_is_disarmed")
    )
    code, out = under_systemd(tmp_path, sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", "-q", *tests)
    assert (code, "2 passed" in out) == (0, True), out
