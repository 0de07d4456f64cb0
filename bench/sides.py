"""The two sides of a comparison: upswitch's own command line, and the shell line that people type instead."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from upswitch_lab.lab import Lab
from upswitch_lab.process import until

# As installed: compiled once. PYTHONDONTWRITEBYTECODE would have each start compile the sources anew.
ENV = {**os.environ, "PYTHONPYCACHEPREFIX": f"{tempfile.gettempdir()}/upswitch-bench-pyc"}
ENV.pop("PYTHONDONTWRITEBYTECODE", None)

# $1 live link, $2 generation, $3 marker's host, $4 its port, $5 master; then nginx as it is run. A poll is builtins only, so
# that it costs no process.
SWITCH = r"""
link=$1 to=$2 host=$3 port=$4 master=$5; shift 5
read -r old </proc/$master/task/$master/children
ln -sfn "generations/$to" "$link" && "$@" -q -t && "$@" -s reload || exit 1
"""
POLL = r"""
until
    exec 3<>"/dev/tcp/$host/$port" && printf 'GET / HTTP/1.0\r\n\r\n' >&3 || exit 1
    answer=
    while IFS= read -r line <&3; do answer=$line; done
    exec 3<&-
    [ "${answer%% *}" = "$to" ]
do :; done
"""
GONE = r"""
for pid in $old; do
    while IFS= read -r -d '' title 2>/dev/null </proc/$pid/cmdline && [ "$title" = 'nginx: worker process' ]; do :; done
done 2>/dev/null
"""


def timed(argv: Sequence[str]) -> float:
    """Wall seconds of a command that must succeed."""
    began = time.perf_counter()
    ran = subprocess.run(argv, capture_output=True, text=True, check=False, env=ENV)
    seconds = time.perf_counter() - began
    if ran.returncode != 0:
        sys.exit(f"{' '.join(argv)}: exit {ran.returncode}\n{ran.stdout}{ran.stderr}")
    return seconds


def upswitch(lab: Lab, *words: str) -> float:
    return timed((sys.executable, "-m", "upswitch", *words, "-c", str(lab.site_file)))


def prepare_shell(lab: Lab) -> None:
    """A generation of each pool for the shell to flip between: 000001-A is there, 000001-B comes beside it."""
    live = Path(lab.place.dir, "live")
    live.unlink()
    lab.first_generation("B")
    live.unlink()
    live.symlink_to("generations/000001-A")
    for path in Path(lab.place.dir).glob("generations/*/app.conf"):  # a check as its owner wrote it
        path.write_text(path.read_text().replace("default_down=false", "default_down=true"))


def shell(lab: Lab, pool: str, *, then: str = "") -> float:
    """`ln -sfn ... && nginx -t && nginx -s reload`, then POLL until the new generation answers, and GONE until no old worker
    accepts any more.
    """
    host, _, port = lab.place.marker.rpartition(":")
    where = (f"{lab.place.dir}/live", f"000001-{pool}", host, port, str(lab.nginx_pid))
    return timed(("bash", "-c", SWITCH + then, "bash", *where, *lab.place.argv))


def settle(lab: Lab, pool: str) -> None:
    """Return when `pool` serves and no old worker is left."""
    children = Path(f"/proc/{lab.nginx_pid}/task/{lab.nginx_pid}/children")
    until(
        lambda: lab.marker().endswith(f"-{pool}") and len(children.read_text().split()) == lab.layout.workers,
        deadline=30.0,
        what=f"{pool} alone to serve",
    )


def line(name: str, seconds: Sequence[float], peer: Sequence[float]) -> str:
    """min, median and max in ms, and how the median stands to the peer's."""
    low, middle, high = min(seconds), statistics.median(seconds), max(seconds)
    ratio = middle / statistics.median(peer)
    return f"{name:42} {low * 1000:9.1f} {middle * 1000:9.1f} {high * 1000:9.1f} {ratio:8.2f}x"


HEAD = f"{'ms':42} {'min':>9} {'median':>9} {'max':>9} {'ratio':>9}"
