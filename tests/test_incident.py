"""Every command of an incident page is run where that incident really happened, and shows what the page promises.

A section with ```console blocks is one incident; STATES makes it happen, on a real nginx. The blocks are run from top to
bottom: a line with `$ ` in a shell, in the folder of the site file; `# exit N` at its end is its exit code, else 0; the lines
below must be part of what it prints, in their order, and `…` stands for anything. A line with `# ` is what a person does in
between: the state has an act for each. A page's commands have done their work when production is proved at the end.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from command import Command, on_disk, running, served_by, upswitch
from conftest import NONE_HERE
from upswitch import survey
from upswitch.adapters.clock import SystemClock
from upswitch.adapters.local import LocalHost
from upswitch.core import outcome
from upswitch.core.run import unfinished
from upswitch.demo.children import Server
from upswitch.demo.conf import Layout
from upswitch.demo.find import find_nginx
from upswitch.demo.lab import Lab
from upswitch.journal import journal_of

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "playbooks" / "incident"
INDEX = FOLDER / "README.md"
SITE = {"watch": {"duration": "1s"}, "gate": {"interval": "50ms", "deadline": "500ms"}}
LONG = 'duration = "1s"', 'duration = "60s"'


@dataclass
class Step:
    """One line that begins with `$` or `#`, and what must be printed after it."""

    line: str
    exit: int
    shown: list[str] = field(default_factory=list)


def sections() -> dict[str, list[Step]]:
    """The console blocks by `page#section`, as one list of steps."""
    found: dict[str, list[Step]] = {}
    for page in sorted(FOLDER.glob("*.md")):
        anchor, is_console = "", False
        for line in page.read_text().splitlines():
            if line.startswith("```"):
                is_console = line == "```console"
            elif line.startswith("#") and not is_console:
                anchor = f"#{_slug(line)}" if line.startswith("## ") else ""
            elif is_console:
                _take(found.setdefault(page.stem + anchor, []), line)
    return found


def _slug(heading: str) -> str:
    return heading.strip("# ").lower().replace(" ", "-")


def _take(steps: list[Step], line: str) -> None:
    if line.startswith(("$ ", "# ")):
        code = re.search(r"# exit (\d+)$", line)
        steps.append(Step(line=line, exit=int(code[1]) if code else 0))
    elif line.strip():
        steps[-1].shown.append(line)


class Incident:
    """What a state left for its page: the words that stand for this laboratory's, and the acts of a person, in their order."""

    def __init__(self, lab: Lab, live: str) -> None:
        self.lab = lab
        self.pool, self.former = ("B", "A") if live == "A" else ("A", "B")
        self.words: dict[str, str] = {"POOL": self.pool, "FORMER": self.former}
        self.acts: list[Callable[[], object]] = []
        self.after = ExitStack()
        self.after.callback(self.start)
        self._dead: list[Server] = []

    def here(self, text: str) -> str:
        """The text with this laboratory's paths, addresses and names."""
        lab = self.lab
        paths = {
            "/etc/nginx/nginx.conf": f"{lab.folder}/nginx.conf",
            "/etc/nginx/upswitch": lab.place.dir,
            "/var/lib/upswitch": f"{lab.folder}/state",
            "/var/log/nginx": str(lab.folder),
            "http://127.0.0.1/": lab.url,
        }
        for path, ours in paths.items():
            text = text.replace(path, ours)
        return re.sub(r"\b[A-Z]+\b", lambda word: self.words.get(word[0], word[0]), text)

    def kill(self, *pools: str) -> None:
        """Every server of these pools, until `start`."""
        self._kill(server for pool in pools for server in self.lab.pool(pool))

    def kill_one(self) -> None:
        """One server of POOL: the gate, which stays armed, takes the release back for it."""
        self._kill((self.lab.backend(self.pool, 2),))

    def _kill(self, servers: Iterable[Server]) -> None:
        for server in servers:
            server.kill()
            self._dead.append(server)

    def start(self) -> None:
        while self._dead:
            self._dead.pop().restart()

    def edit(self, path: Path, old: str, new: str) -> None:
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    @contextmanager
    def under_watch(self, *options: str) -> Iterator[Command]:
        """A switch to POOL in its watch, which lasts until the end of the context makes it end."""
        self.edit(self.lab.site_file, *LONG)
        command = Command(self.lab, "switch", "--to", self.pool, *options)
        self.after.callback(_kill, command)
        command.wait_for("confirm ")
        self.edit(self.lab.site_file, *LONG[::-1])
        yield command


def _kill(command: Command) -> None:
    """Of a test that failed: nothing stays behind."""
    with command.process as process:
        process.kill()


def run(incident: Incident, step: Step) -> None:
    """One step, done and compared."""
    if step.line.startswith("# "):
        incident.acts.pop(0)()
        return
    words = incident.here(step.line[2:])
    lab = incident.lab
    env = {**os.environ, "PATH": f"{lab.folder}/bin:{Path(sys.executable).parent}:{os.environ['PATH']}"}
    ran = subprocess.run(["bash", "-c", words], cwd=lab.folder, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == step.exit, f"{words}\n{ran.stdout}{ran.stderr}"
    rest = " ".join(ran.stdout.split())
    for part in re.split(r"…|\n", incident.here("\n".join(step.shown))):
        wanted = " ".join(part.split())
        if not wanted:
            continue
        assert wanted in rest, f"{words}\nshows no {wanted!r} in its place:\n{ran.stdout}"
        rest = rest.partition(wanted)[2]


def nginx_on_path(lab: Lab) -> None:
    """`nginx` as a person types it: a distribution's has its paths built in."""
    (lab.folder / "bin").mkdir()
    path = lab.folder / "bin" / "nginx"
    path.write_text(f'#!/bin/sh\nexec {lab.place.binary} -p {lab.folder} -c {lab.folder}/nginx.conf -e stderr "$@"\n')
    path.chmod(0o755)


# ---- states ----


def bug(at: Incident) -> None:
    """A host whose append raises what no adapter may raise: swapped and reloaded, not yet proved."""
    script = at.lab.folder / "buggy.py"
    script.write_text(
        "import sys\n"
        "from upswitch.adapters.local import LocalHost\n"
        "from upswitch.cli import Wiring, main\n"
        "class Buggy(LocalHost):\n"
        "    def append(self, path, data, **how):\n"
        '        if b\'"step":"confirm"\' in data and b"intent" in data:\n'
        '            raise ZeroDivisionError("a bug")\n'
        "        super().append(path, data, **how)\n"
        "main(sys.argv[1:], Wiring(host=Buggy))\n"
    )
    words = [sys.executable, str(script), "switch", "--to", at.pool, "-c", str(at.lab.site_file)]
    ran = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 1, ran
    at.words["FILE"] = re.search(r"traceback in ([^)]+)", ran.stdout)[1]


def wrong_site_file(at: Incident) -> None:
    at.edit(at.lab.site_file, "rise = 1", "rise = 0")
    assert upswitch(at.lab, "switch", "--to", at.pool).exit == 2
    at.acts = [lambda: at.edit(at.lab.site_file, "rise = 0", "rise = 1")]


def server_down(at: Incident) -> None:
    at.kill_one()
    assert upswitch(at.lab, "switch", "--to", at.pool).exit == 3
    at.words["ADDRESS"] = at.lab.backend(at.pool, 2).address
    at.acts = [at.start]


def live_pool_dead(at: Incident) -> None:
    at.kill(at.former)
    answer = upswitch(at.lab, "switch", "--to", at.pool)
    assert (answer.exit, "no way back" in answer.json["said"]) == (3, True), answer


def broken_conf(at: Incident) -> None:
    conf = at.lab.folder / "nginx.conf"
    at.edit(conf, "http {", "http { nonsense on;")
    assert upswitch(at.lab, "switch", "--to", at.pool).exit == 3
    at.acts = [lambda: at.edit(conf, "http { nonsense on;", "http {")]


def edited_by_hand(at: Incident) -> None:
    path = at.lab.folder / "upswitch" / "live" / "app.conf"
    path.write_text(path.read_text() + "# tuned by hand\n")
    assert upswitch(at.lab, "switch", "--to", at.pool).exit == 3


def disk_differs(at: Incident) -> None:
    """Somebody moved the link by hand; nginx has not read it yet."""
    assert upswitch(at.lab, "switch", "--to", at.pool, "--no-watch").exit == 0
    serving = running(at.lab)
    live = at.lab.folder / "upswitch" / "live"
    other = next(path.name for path in sorted(live.parent.glob("generations/*")) if path.name[-1] == at.former)
    live.unlink()
    live.symlink_to(f"generations/{other}")
    assert upswitch(at.lab, "switch", "--to", at.pool).exit == 3
    at.words["N"] = str(int(serving.partition("-")[0]))


def killed_run(at: Incident) -> None:
    with at.under_watch() as command:
        command.signal(signal.SIGKILL)
        assert command.process.wait(timeout=20) == -signal.SIGKILL


def nginx_down(at: Incident) -> None:
    at.lab.stop_nginx()
    assert upswitch(at.lab, "switch", "--to", at.pool).exit == 3
    at.acts = [at.lab.start_nginx]


def journal_damaged(at: Incident) -> None:
    journal = at.lab.folder / "state" / "journal.jsonl"
    with journal.open("a") as file:
        file.write("rubbish\n")
    assert upswitch(at.lab, "switch", "--to", at.pool).exit == 3


def nothing_before(at: Incident) -> None:
    """Switched and rolled back: what is live is a way back itself."""
    assert upswitch(at.lab, "switch", "--to", at.pool, "--no-watch").exit == 0
    at.words["N"] = str(int(on_disk(at.lab).partition("-")[0]))
    assert upswitch(at.lab, "rollback").exit == 0
    assert upswitch(at.lab, "rollback").exit == 3


def failed_release(at: Incident) -> None:
    with at.under_watch() as command:
        at.kill_one()
        assert command.end().exit == 4


def link_moved(at: Incident) -> None:
    live = at.lab.folder / "upswitch" / "live"
    with at.under_watch() as command:
        at.words["NAME"] = on_disk(at.lab)
        live.unlink()
        live.symlink_to("generations/000099-X")
        at.kill_one()
        assert command.end().exit == 5


def disk_read_only(at: Incident) -> None:
    folder = at.lab.folder / "upswitch"
    mounted = subprocess.run(("mount", "--bind", folder, folder), capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"nothing can be mounted here: {mounted.stderr.decode()}")
    at.after.callback(subprocess.run, ("umount", folder), check=True)
    with at.under_watch() as command:
        subprocess.run(("mount", "-o", "remount,bind,ro", folder), check=True)
        at.kill_one()
        assert command.end().exit == 5
    at.acts = [lambda: subprocess.run(("mount", "-o", "remount,bind,rw", folder), check=True)]


def master_gone(at: Incident) -> None:
    with at.under_watch() as command:
        at.lab.stop_nginx()
        at.kill_one()
        assert command.end().exit == 5
    at.acts = [at.lab.start_nginx]


def outage(at: Incident) -> None:
    conf, folder = at.lab.folder / "nginx.conf", at.lab.folder / "work"
    conf.write_text(f"working_directory {folder};\n{conf.read_text()}")
    assert upswitch(at.lab, "switch", "--to", at.pool).exit == 5
    at.acts = [folder.mkdir]


def rejected_way_back(at: Incident) -> None:
    """The same port trouble, come up during the watch: nginx stays on the failing release."""
    conf, address = at.lab.folder / "nginx.conf", at.lab.backend(at.former, 1).address
    taken = f"server {{ listen {address}; }} server {{"
    with at.under_watch() as command:
        at.edit(conf, "    server {", f"    {taken}")
        at.kill_one()
        assert command.end().exit == 5
    at.acts = [lambda: at.edit(conf, taken, "server {")]


def no_reload(at: Incident) -> None:
    """The reload command is refused: here it is another program, in life it is mostly sudo or polkit that says no."""
    site = at.lab.site_file
    reload = next(line for line in site.read_text().splitlines() if line.startswith("reload = "))
    at.edit(site, reload, 'reload = ["false"]')
    assert upswitch(at.lab, "switch", "--to", at.pool).exit == 5
    at.acts = [lambda: at.edit(site, 'reload = ["false"]', reload)]


def locked(at: Incident) -> None:
    with at.under_watch("--reason", "release 7") as command:
        assert upswitch(at.lab, "rollback").exit == 6
    at.words["PID"] = str(command.process.pid)
    at.acts = [command.end]


def held_as_asked(at: Incident) -> None:
    with at.under_watch("--on-spike", "hold") as command:
        at.kill_one()
        assert command.end().exit == 7


def held_both_dead(at: Incident) -> None:
    with at.under_watch() as command:
        at.kill("A", "B")
        assert command.end().exit == 7
    at.acts = [at.start]


def interrupted(at: Incident) -> None:
    at.kill_one()
    at.edit(at.lab.site_file, 'deadline = "500ms"', 'deadline = "60s"')
    command = Command(at.lab, "switch", "--to", at.pool)
    at.after.callback(_kill, command)
    command.wait_for("gate ")
    command.signal(signal.SIGINT)
    assert command.end().exit == 130
    at.edit(at.lab.site_file, 'deadline = "60s"', 'deadline = "500ms"')


def way_back_removed(at: Incident) -> None:
    """Somebody tidied up while the watch ran: all generations but the live one are gone."""
    with at.under_watch() as command:
        for folder in (at.lab.folder / "upswitch" / "generations").iterdir():
            if folder.name != on_disk(at.lab):
                shutil.rmtree(folder)
        at.kill_one()
        assert command.end().exit == 5


STATES: dict[str, Callable[[Incident], None]] = {
    "bug": bug,
    "usage": wrong_site_file,
    "refused#gate": server_down,
    "refused#no-way-back": live_pool_dead,
    "refused#broken-configuration": broken_conf,
    "refused#edited": edited_by_hand,
    "refused#disagree": disk_differs,
    "refused#unfinished": killed_run,
    "refused#nginx-down": nginx_down,
    "refused#journal": journal_damaged,
    "refused#nothing-before": nothing_before,
    "rolled-back#the-release": failed_release,
    "stuck#link-moved": link_moved,
    "stuck#disk": disk_read_only,
    "stuck#generation-gone": way_back_removed,
    "stuck#no-master": master_gone,
    "stuck#reload-refused": no_reload,
    "stuck#outage": outage,
    "stuck#rejected": rejected_way_back,
    "locked": locked,
    "held#asked-to-hold": held_as_asked,
    "held#both-pools-dead": held_both_dead,
    "interrupted": interrupted,
}
LATER = {"split", "unreachable", "dead-man", "host-key"}
"""Pages on fleets, which are still being built: their commands are not yet run."""


class Shared:
    """One laboratory for all pages: what a page has put right is fit for the next incident. After a failure a new one."""

    def __init__(self, binary: str) -> None:
        self._binary = binary
        self._open = ExitStack()
        self._lab: Lab | None = None

    @contextmanager
    def lab(self) -> Iterator[Lab]:
        lab, self._lab = self._lab or self._new(), None
        yield lab
        self._lab = lab

    def _new(self) -> Lab:
        self.close()
        lab = self._open.enter_context(Lab(self._binary, Layout(site=SITE)))
        nginx_on_path(lab)
        return lab

    def close(self) -> None:
        self._open.close()


@pytest.fixture(scope="module", params=[pytest.param(path, id=version) for version, path in find_nginx()[-1:]] or [NONE_HERE])
def shared(request) -> Iterator[Shared]:
    shared = Shared(request.param)
    yield shared
    shared.close()


@pytest.mark.parametrize("name", STATES)
def test_every_command_of_the_page_does_what_the_page_promises(shared, name):
    with shared.lab() as lab:
        incident = Incident(lab, on_disk(lab)[-1])
        with incident.after:
            STATES[name](incident)
            for step in sections()[name]:
                run(incident, step)
            assert not incident.acts, "the page does not ask for every act that the state has"
        assert_sound(lab)


def assert_sound(lab: Lab) -> None:
    """What `upswitch status` would say, without a process for it: production is proved, and no run is unfinished."""
    host, nginx = LocalHost(SystemClock()), lab.site.nginx
    live = survey.live_now(host, nginx)
    assert live.agrees, live
    assert {server[0] for server in served_by(lab)} == {live.pool}
    assert unfinished(journal_of(host, nginx).read()) is None


def test_every_section_with_commands_has_its_incident():
    assert {name for name in sections() if name.partition("#")[0] not in LATER} == set(STATES)


def test_every_page_is_in_the_index_and_every_page_that_the_program_names_is_there():
    pages = {path.name for path in FOLDER.glob("*.md")} - {INDEX.name}
    assert set(re.findall(r"\]\(([\w-]+\.md)\)", INDEX.read_text())) == pages
    source = "".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    assert set(re.findall(r"playbooks/incident/([\w-]+\.md)", source)) <= pages


def test_every_exit_code_has_its_page():
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", INDEX.read_text(), re.MULTILINE)} == _exit_codes() - {0}


def _exit_codes() -> set[int]:
    return {*outcome.EXIT.values(), outcome.BUG, outcome.USAGE, outcome.FINDINGS, outcome.LOCKED}


@pytest.mark.parametrize("page", sorted(FOLDER.glob("*.md")), ids=lambda page: page.stem)
def test_every_link_to_a_section_leads_to_one(page):
    for target, anchor in re.findall(r"\]\(([\w-]*(?:\.md)?)#([\w-]+)\)", page.read_text()):
        text = (FOLDER / target if target else page).read_text()
        assert anchor in {_slug(line) for line in text.splitlines() if line.startswith("## ")}, anchor
