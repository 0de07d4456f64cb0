"""A fleet switched by upswitch and by ansible, what a further host costs, and the round trips and bytes of one host.

    python bench/fleet.py [--hosts 50] [--runs 5] [--forks 50]

Every host is an sshd and an nginx (the newest here, one worker) of its own on loopback; all have the same two pools. Three parts,
in one run:

- peer: ours is `upswitch switch --to X --no-watch` in one wave with a gate of one probe; it returns when every nginx was proved to
  serve X. The peer is ansible-playbook at its best: template with nginx -t on the candidate as its `validate`, a symlink, and
  a reload; pipelining, ControlPersist, strategy free, no facts, --forks; it returns when every nginx was signalled. "kept": the
  connections of the run before still stand. "anew": they are made in the run, as ours are in every run. Each side has a fleet of
  its own; they take turns, after a warm-up. After each switch every nginx of the fleet must answer from X.
- growth: ours with a fifth of the hosts, two fifths, ... all; seconds per further host by least squares over the medians.
- trips: see roundtrips.py.

"near" is processor time of the command and its children (without ansible's ssh masters, which leave it), "far" that of all
sshds, nginxs and what they ran (without the dead-man, which leaves sshd). Both share this machine's processors: so far time, which
fifty machines would have had in parallel, costs both sides wall time here.
Goals: at most a fifth of the peer's time, less than 0.1 s per further host on 2 processors.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import checkout  # noqa: F401
import roundtrips

from fleetlab import FleetLab
from sshd import program, with_libraries
from upswitch_lab.conf import Layout
from upswitch_lab.find import find_nginx
from upswitch_lab.lab import Lab
from upswitch_lab.process import until

SITE = {
    "rollout": {"waves": ["100%"]},
    "gate": {"interval": "100ms", "timeout": "1s", "deadline": "10s", "rise": 1},
    "watch": {"duration": "60s"},
}
OURS, KEPT, ANEW = "upswitch switch --no-watch", "ansible, connections kept", "ansible, connections anew"
TICKS = os.sysconf("SC_CLK_TCK")

# `validate` gets the file before it is moved into place; nginx -t wants a whole configuration, so one is made around it.
PLAYBOOK = r"""
- hosts: all
  gather_facts: false
  strategy: free
  tasks:
    - ansible.builtin.template:
        src: app.conf.j2
        dest: "{{ dir }}/generations/{{ generation }}.conf"
        mode: "0644"
        validate: >-
          sh -c 'sed "s#{{ dir }}/live.conf#$0#" {{ folder }}/nginx.conf >{{ folder }}/candidate.conf
          && exec {{ nginx }} -q -t -c {{ folder }}/candidate.conf' %s
    - ansible.builtin.file:
        src: "generations/{{ generation }}.conf"
        dest: "{{ dir }}/live.conf"
        state: link
    - ansible.builtin.command: "{{ nginx }} -c {{ folder }}/nginx.conf -s reload"
"""
TEMPLATE = """# {{ generation }}
upstream app {
{% for server in pools[pool] %}
    server {{ server }};
{% endfor %}
}
"""


class Cost(NamedTuple):
    """Seconds: of the clock, and of processors here and on the hosts."""

    wall: float
    near: float
    far: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=50)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--forks", type=int, default=50)
    options = parser.parse_args()
    version, binary = find_nginx()[-1]
    with FleetLab(binary, options.hosts, Layout(site=SITE)) as ours:
        lighten(ours)
        print(f"nginx {version}, {options.hosts} hosts, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}", flush=True)
        with FleetLab(binary, options.hosts, Layout(site=SITE)) as theirs:
            tell_sides(compare(ours, Peer(theirs, options.forks), options.runs))
        tell_growth(growth(ours, options.runs))
        roundtrips.tell(ours, options.runs)


# ---- the two sides ----


def lighten(fleet: FleetLab) -> None:
    for lab in fleet.labs.values():
        rewrite(lab, "worker_processes 2;", "worker_processes 1;")


def rewrite(lab: Lab, before: str, after: str) -> None:
    """Change a line of its nginx.conf and start nginx anew."""
    conf = Path(lab.place.conf)
    text = conf.read_text()
    if before not in text:
        sys.exit(f"no {before!r} in {conf}")
    conf.write_text(text.replace(before, after))
    lab.start_nginx()


def switch(fleet: FleetLab, pool: str, hosts: Sequence[str] = ()) -> Cost:
    """Ours. `hosts` () is all."""
    names = hosts or fleet.names
    chosen = [word for name in hosts for word in ("--host", name)]
    argv = (sys.executable, "-m", "upswitch", "switch", "--to", pool, "--no-watch", "-c", f"{fleet.site_file}", *chosen)

    def is_done() -> bool:
        return serves(fleet, names, pool)

    return cost(
        fleet,
        argv,
        roundtrips.env(fleet.folder / "home"),
        lambda: is_done() or sys.exit("upswitch said it was done, and it was not"),
    )


class Peer:
    """ansible, with a fleet where one symlink to one file is what decides: it has the less to do."""

    def __init__(self, fleet: FleetLab, forks: int) -> None:
        self.fleet = fleet
        self._folder = fleet.folder / "ansible"
        self._forks = forks
        self._runs = 0
        self._folder.mkdir()
        ssh = self._folder / "ssh"
        ssh.write_text(f'#!/bin/sh\nexec {" ".join(with_libraries(program("ssh")))} "$@"\n')
        ssh.chmod(0o755)
        (self._folder / "ansible.cfg").touch()  # nobody else's
        (self._folder / "switch.yml").write_text(PLAYBOOK)
        (self._folder / "app.conf.j2").write_text(TEMPLATE)
        hosts = {name: {"folder": f"{lab.folder}", "dir": lab.place.dir, "nginx": plain(lab)} for name, lab in fleet.labs.items()}
        common = {"pools": fleet.labs[fleet.names[0]].addresses, "ansible_python_interpreter": sys.executable}
        (self._folder / "inventory.yml").write_text(json.dumps({"all": {"hosts": hosts, "vars": common}}))
        for lab in fleet.labs.values():
            lay_out(lab)

    def switch(self, pool: str, *, is_anew: bool) -> Cost:
        """With `is_anew` nothing is left of the connections of the run before."""
        self._runs += 1
        if is_anew:
            for sshd in self.fleet.sshds.values():
                sshd.kill_sessions()
        words = ("-e", f"pool={pool}", "-e", f"generation={self._runs:06}-{pool}", f"{self._folder}/switch.yml")
        argv = (f"{Path(sys.executable).parent}/ansible-playbook", "-i", f"{self._folder}/inventory.yml", *words)

        def settle() -> None:
            until(lambda: serves(self.fleet, self.fleet.names, pool), deadline=30.0, what=f"{pool} on all hosts of the peer")

        return cost(self.fleet, argv, self._env, settle)

    @property
    def _env(self) -> dict[str, str]:
        ssh = f"-F {self.fleet.folder}/home/.ssh/config -o ControlMaster=auto -o ControlPersist=600s"
        ours = {
            "ANSIBLE_CONFIG": f"{self._folder}/ansible.cfg",
            "ANSIBLE_FORKS": f"{self._forks}",
            "ANSIBLE_HOME": f"{self._folder}/home",
            "ANSIBLE_PIPELINING": "True",
            "ANSIBLE_REMOTE_TEMP": f"{self._folder}/far",
            "ANSIBLE_SSH_ARGS": ssh,
            "ANSIBLE_SSH_CONTROL_PATH_DIR": f"{self._folder}/cp",
            "ANSIBLE_SSH_EXECUTABLE": f"{self._folder}/ssh",
            "ANSIBLE_SSH_TRANSFER_METHOD": "piped",
            "LC_ALL": "C.UTF-8",
        }
        return roundtrips.env(self.fleet.folder / "home") | ours


def plain(lab: Lab) -> str:
    """nginx as it is run, without its configuration."""
    return f"{lab.place.binary} -p {lab.folder} -e {lab.place.error_log}"


def lay_out(lab: Lab) -> None:
    """The upstream alone is what ansible writes; the marker, which nginx.conf's log format needs, lies beside it."""
    folder = Path(lab.place.dir)
    first = folder / "generations/000000-A.conf"
    for file, path in (("marker.conf", folder / "marker.conf"), ("app.conf", first)):
        path.write_text((folder / "live" / file).read_text())
    (folder / "live.conf").symlink_to(first)
    rewrite(lab, f"include {folder}/live/*.conf;", f"include {folder}/marker.conf; include {folder}/live.conf;")


# ---- what is measured ----


def compare(ours: FleetLab, peer: Peer, runs: int) -> dict[str, list[Cost]]:
    """One warm-up, which compiles and connects, then `runs` rounds."""
    lighten(peer.fleet)
    costs = defaultdict[str, list[Cost]](list)
    for number in range(runs + 1):
        pool = "BA"[number % 2]
        taken = {
            OURS: switch(ours, pool),
            ANEW: peer.switch(pool, is_anew=True),
            KEPT: peer.switch("AB"[number % 2], is_anew=False),
        }
        for side in taken if number else ():
            costs[side].append(taken[side])
    switch(ours, "A")
    return costs


def growth(fleet: FleetLab, runs: int) -> dict[int, list[Cost]]:
    """Each number of hosts goes there and back, so that no run finds a host that is there already."""
    sizes = sorted({max(1, len(fleet.names) * part // 5) for part in range(1, 6)})
    costs = defaultdict[int, list[Cost]](list)
    for _ in range((runs + 1) // 2):
        for size in sizes:
            costs[size] += [switch(fleet, pool, fleet.names[:size]) for pool in "BA"]
    return costs


def cost(fleet: FleetLab, argv: Sequence[str], env: dict[str, str], settle: Callable[[], object]) -> Cost:
    """Of a command that must succeed. `settle` returns when the fleet serves what it should; it is not timed."""
    far, near, began = far_time(fleet), near_time(), time.perf_counter()
    ran = subprocess.run(argv, capture_output=True, text=True, check=False, env=env)
    wall = time.perf_counter() - began
    if ran.returncode != 0:
        sys.exit(f"{' '.join(argv)}: exit {ran.returncode}\n{ran.stdout}{ran.stderr}")
    near = near_time() - near
    settle()
    return Cost(wall, near, far_time(fleet) - far)


def serves(fleet: FleetLab, names: Iterable[str], pool: str) -> bool:
    return all(fleet.labs[name].get()[1].startswith(pool) for name in names)


def near_time() -> float:
    """Processor seconds of all children of ours that were waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def far_time(fleet: FleetLab) -> float:
    """Processor seconds of every sshd and nginx, in ticks of 10 ms."""
    return sum(ticks(each.pid) for each in fleet.sshds.values()) + sum(ticks(each.nginx_pid) for each in fleet.labs.values())


def ticks(pid: int) -> float:
    """Of a process, the children it has waited for, and those below it now."""
    try:
        used = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]
        below = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return 0.0
    return sum(map(int, used)) / TICKS + sum(ticks(int(child)) for child in below)


# ---- what is told ----


def tell_sides(costs: dict[str, list[Cost]]) -> None:
    print(f"\n{'s':32} {'min':>8} {'median':>8} {'max':>8} {'near':>8} {'far':>8} {'ratio':>8} {'processor':>10}")
    for side, each in costs.items():
        print(f"{row(side, each)}{'' if side == OURS else ratios(middle(costs[OURS]), middle(each))}", flush=True)
    print("ratio: ours to this peer, of the clock (goal 0.20x) and of processor time")


def tell_growth(costs: dict[int, list[Cost]]) -> None:
    print(f"\n{'s':32} {'min':>8} {'median':>8} {'max':>8} {'near':>8} {'far':>8}")
    for size, each in costs.items():
        print(row(f"upswitch, {size} hosts", each), flush=True)
    if len(costs) > 1:
        lines = [statistics.linear_regression([*costs], each) for each in zip(*map(middle, costs.values()), strict=True)]
        wall, near, far = (line.slope * 1000 for line in lines)
        print(f"each further host {wall:.0f} ms, none {lines[0].intercept:.2f} s; goal: under 100 ms")
        print(f"each further host in processor time: near {near:.0f} ms, far {far:.0f} ms")


def ratios(ours: Cost, peer: Cost) -> str:
    return f" {ours.wall / peer.wall:7.2f}x {(ours.near + ours.far) / (peer.near + peer.far):9.2f}x"


def row(name: str, costs: Sequence[Cost]) -> str:
    walls = [each.wall for each in costs]
    found = middle(costs)
    return f"{name:32} {min(walls):8.2f} {found.wall:8.2f} {max(walls):8.2f} {found.near:8.2f} {found.far:8.2f}"


def middle(costs: Sequence[Cost]) -> Cost:
    return Cost(*(statistics.median(each) for each in zip(*costs, strict=True)))


if __name__ == "__main__":
    main()
