"""The dead-man on real processes: real watchers, real locks, a real nginx that answers what the watcher says."""

import os
import shutil
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import msgspec
import pytest

from command import served_by
from hostcontract import fill, tiny_disk
from upswitch.basics.result import Result
from upswitch.generations import store
from upswitch.hosts.clock import SystemClock
from upswitch.hosts.local.host import LocalHost
from upswitch.hosts.sh import Exit
from upswitch.site.model import Nginx
from upswitch.switch import deadman
from upswitch.switch import run as runs
from upswitch.switch.deadman import Asked, DeadMan, Mark
from upswitch.switch.journal import journal_of
from upswitch.switch.run import Fired, Plan, Started
from upswitch_lab.conf import Layout
from upswitch_lab.find import ENV, find_nginx
from upswitch_lab.lab import Lab
from upswitch_lab.process import free_port, until

CLOCK = SystemClock()
HOST = LocalHost(CLOCK)
RUN = "20240101T000000-abcdef"
QUICK = {"grace": 0, "poll": 0.02, "lock_wait": 0.3}
SMALL = Layout(servers_per_pool=1)
PLAN = Plan(run=RUN, command="switch", pool="B", former_pool="A", former="000001-A", to="000002-B", back="000003-A")


def uptime():
    return int(float(Path("/proc/uptime").read_text().split()[0]))


def ticks_of(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


class State:
    """A state folder, as the holder of its lock sees it."""

    def __init__(self, nginx: Nginx):
        self.nginx = nginx
        self.folder = Path(nginx.state)
        self.run_folder = self.folder / "deadman" / RUN

    def lease(self, seconds):
        """Claim to live for so many seconds from now."""
        temp = self.folder / "lease.tmp"
        temp.write_text(f"{uptime() + seconds}\n")
        temp.rename(self.folder / "lease")

    @property
    def epoch(self):
        return int((self.folder / "epoch").read_text())

    @property
    def marks(self):
        return {mark for mark in Mark if (self.run_folder / mark).exists()}

    @property
    def watcher(self):
        return int((self.run_folder / "up").read_text().split()[0])

    def is_watched(self):
        """A dead one may stand there for a second: it is init's to reap."""
        with suppress(FileNotFoundError, ProcessLookupError):
            return Path(f"/proc/{self.watcher}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        return False

    def runs_now(self, program):
        """Whether the watcher waits for a child of this name."""
        children = Path(f"/proc/{self.watcher}/task/{self.watcher}/children").read_text().split()
        with suppress(OSError):
            return any(Path(f"/proc/{child}/comm").read_text() == f"{program}\n" for child in children)
        return False

    def await_done(self, deadline=20.0):
        until(lambda: Mark.DONE in self.marks, deadline=deadline, what="the end of the fire")
        return self.said

    @property
    def said(self):
        return deadman.parse_fired((self.run_folder / "said").read_bytes().splitlines()[0])

    def end(self):
        """Disarm what is left, and see the watcher go."""
        if (self.run_folder / "up").exists():
            deadman.disarm(HOST, self.nginx, RUN)
            until(lambda: not self.is_watched(), what="the end of the watcher")


class Scene(State):
    """Under way from one pool to the other behind a real nginx: the new generation and the way back are on disk."""

    def __init__(self, lab: Lab, nginx: Nginx | None = None):
        super().__init__(nginx or lab.site.nginx)
        self.lab = lab
        self.base = self.live
        number, pool = int(max(os.listdir(f"{self.nginx.dir}/generations"))[:6]), self.base[7:]
        other = {"A": "B", "B": "A"}[pool]
        self.to, self.back = f"{number + 1:06d}-{other}", f"{number + 2:06d}-{pool}"
        self._stage(self.to, [(pool, other)])
        self._stage(self.back, [])
        way_back = Path(self.nginx.dir, ".live.back")
        way_back.unlink(missing_ok=True)  # staging made one
        way_back.symlink_to(f"generations/{self.back}")
        self.lease(600)
        (self.folder / "epoch").write_text("9\n")
        (self.folder / "lock").touch(mode=0o600)
        plan = Plan(run=RUN, command="switch", pool=other, former_pool=pool, former=self.base, to=self.to, back=self.back)
        self.journal = journal_of(HOST, self.nginx)
        self.journal.write(Started(plan=plan, at=CLOCK.now()))

    def _stage(self, name, pools):
        files = store.get(HOST, self.nginx, self.base)
        files = {file: data.replace(self.base.encode(), name.encode()) for file, data in files.items()}
        for old, new in pools:
            for before, after in zip(self.lab.addresses[old], self.lab.addresses[new], strict=True):
                files = {file: data.replace(before.encode(), after.encode()) for file, data in files.items()}
        assert store.stage(HOST, self.nginx, {name: files}).result is Result.OK

    @property
    def live(self):
        return Path(os.readlink(self.nginx.live)).name

    @property
    def watch(self):
        master = self.lab.nginx_pid
        return DeadMan(
            run=RUN,
            to=self.to,
            base=self.base,
            back=self.back,
            expect=(self.to, self.base),
            pid=master,
            start=ticks_of(master),
            pid_file=f"{self.lab.folder}/nginx.pid",
            reload=self.nginx.reload,
            marker=self.nginx.marker,
            **QUICK,
        )

    def arm(self, **changes):
        took = deadman.arm(HOST, self.nginx, msgspec.structs.replace(self.watch, **changes))
        assert took.result is Result.OK, took

    def swap(self):
        self.point(self.to)
        self.lab.renew()
        assert self.lab.marker() == self.to

    def point(self, name):
        assert store.point(HOST, self.nginx, expect=self.live, to=name).result is Result.OK

    def vanish(self):
        self.lease(-10)
        return self.await_done()

    def settle(self):
        """What serves is what is on disk again."""
        if self.lab.marker() != self.live:
            self.lab.renew()
            assert self.lab.marker() == self.live
        shutil.rmtree(self.folder)
        self.folder.mkdir(mode=0o755)


@contextmanager
def scene_in(lab):
    scene = Scene(lab)
    try:
        yield scene
    finally:
        scene.end()
        scene.settle()


@pytest.fixture(scope="module")
def shared_lab():
    found = find_nginx()
    if not found:
        pytest.skip(f"no nginx here: run scripts/setup, or set {ENV}")
    with Lab(found[-1][1], SMALL) as lab:
        yield lab


@pytest.fixture
def scene(shared_lab):
    with scene_in(shared_lab) as scene:
        yield scene


@pytest.fixture
def bare(tmp_path):
    """No nginx at all: a live link that is nobody's, so that a fire is over at once."""
    nginx = Nginx(dir=f"{tmp_path}/up", state=f"{tmp_path}/state")
    store.prepare(HOST, nginx)
    state = State(nginx)
    state.lease(600)
    yield state
    state.end()


def arm_bare(state, run=RUN, **changes):
    names = {"to": "000002-B", "base": "000001-A", "back": "000003-A"}
    watch = DeadMan(run=run, **names, reload=("false",), marker="127.0.0.1:9", **QUICK)
    return deadman.arm(HOST, state.nginx, msgspec.structs.replace(watch, **changes))


@contextmanager
def holding(state):
    """The lock, held by a process of its own."""
    holder = subprocess.Popen(
        ("flock", f"{state.folder}/lock", "sh", "-c", "echo; exec sleep 60"), stdout=-1, start_new_session=True
    )
    with holder:
        holder.stdout.readline()
        try:
            yield holder
        finally:
            os.killpg(holder.pid, signal.SIGKILL)


# ---- firing ----


def test_quiet_while_the_lease_is_renewed_and_back_in_the_former_pool_when_it_runs_out(nginx):
    with Lab(nginx, SMALL) as lab, scene_in(lab) as scene:
        scene.arm()
        scene.swap()
        until(lambda: served_by(lab) == {scene.to[7:] + "1"}, what="the last word of the old workers")
        os.kill(scene.watcher, signal.SIGHUP)
        scene.lease(1)
        until(lambda: scene.runs_now("sleep"), what="a look")
        scene.lease(1)
        assert (scene.marks, scene.live) == ({Mark.ARMED}, scene.to)

        said = scene.await_done()
        assert (said.result, said.live, said.run) == (Result.OK, scene.back, RUN)
        assert said.said.startswith(f"the live link points to {scene.back}; ")
        assert said.said.endswith(f"new and 0 old workers accept requests; nginx reports {scene.back}")
        assert (lab.marker(), scene.live) == (scene.back, scene.back)
        assert served_by(lab) == {scene.back[7:] + "1"}
        assert scene.epoch == 10
        assert runs.decode((scene.folder / "journal.jsonl").read_bytes())[-1] == said
        assert scene.journal.read()[-1].fired == said
        assert scene.folder.joinpath("lock").stat().st_mode & 0o777 == 0o600


def test_a_switch_that_had_not_begun_is_left_as_it_was(scene):
    scene.arm()
    said = scene.vanish()
    assert (said.result, said.live) == (Result.OK, scene.base)
    assert said.said == f"nothing had to be restored: nginx reports {scene.base} and the live link points to it"
    assert (scene.lab.marker(), scene.live, scene.epoch) == (scene.base, scene.base, 10)


def test_a_link_that_was_put_back_without_a_reload_is_not_believed(scene):
    scene.swap()
    scene.arm()
    scene.point(scene.back)
    said = scene.vanish()
    assert (said.result, said.live, scene.lab.marker()) == (Result.OK, scene.back, scene.back)


def test_a_damaged_way_back_leads_to_what_was_live_before(scene):
    scene.swap()
    scene.arm()
    Path(scene.nginx.dir, "generations", scene.back, "marker.conf").unlink()
    said = scene.vanish()
    assert (said.result, said.live, scene.lab.marker()) == (Result.OK, scene.base, scene.base)


def test_a_foreign_live_link_is_left_alone(scene):
    scene.swap()
    scene.arm()
    foreign = Path(scene.nginx.dir, "generations", "000900-B")
    Path(scene.nginx.dir, "generations", scene.to).rename(foreign)
    Path(scene.nginx.live).unlink()
    Path(scene.nginx.live).symlink_to("generations/000900-B")
    said = scene.vanish()
    assert (said.result, said.live) == (Result.FAILED, "")
    assert said.said == "the live link points to no generation of this run: it was left alone"
    assert (scene.live, scene.lab.marker()) == ("000900-B", scene.to)
    assert scene.journal.read()[-1].fired == said
    scene.point(scene.back)


def test_a_stopped_master_is_said_and_not_signalled(scene):
    scene.swap()
    scene.arm()
    os.kill(scene.lab.nginx_pid, signal.SIGSTOP)
    try:
        said = scene.vanish()
        pending = Path(f"/proc/{scene.lab.nginx_pid}/status").read_text().partition("ShdPnd:")[2].split()[0]
    finally:
        os.kill(scene.lab.nginx_pid, signal.SIGCONT)
    assert (said.result, said.live, int(pending, 16)) == (Result.FAILED, scene.back, 0)
    assert said.said.endswith(f"nginx was not reloaded: the nginx master {scene.lab.nginx_pid} is stopped")
    assert scene.lab.marker() == scene.to


@pytest.mark.parametrize("pid_file", ["there", ""])
def test_a_process_that_is_no_nginx_master_is_never_signalled(scene, tmp_path, pid_file):
    scene.swap()
    with subprocess.Popen(("sleep", "60")) as innocent:
        path = tmp_path / "pid"
        path.write_text(f"{innocent.pid}\n")
        scene.arm(
            pid_file=f"{path}" if pid_file else "",
            pid=innocent.pid,
            start=ticks_of(innocent.pid),
            reload=("kill", f"{innocent.pid}"),
        )
        said = scene.vanish()
        assert innocent.poll() is None
        innocent.kill()
    assert said.result is Result.FAILED
    assert said.said.endswith(f"process {innocent.pid} is no nginx master")


def test_without_a_pid_file_the_master_is_known_by_its_start(scene):
    scene.swap()
    scene.arm(pid_file=f"{scene.folder}/nowhere", start=scene.watch.start + 1)
    said = scene.vanish()
    assert (said.result, said.live) == (Result.FAILED, scene.back)
    assert said.said.endswith(f"the nginx master {scene.lab.nginx_pid} is gone")


def test_a_reload_that_does_nothing_is_not_believed(scene):
    scene.swap()
    scene.arm(reload=("sh", "-c", "exit 3"), proof=1)
    said = scene.vanish()
    assert (said.result, said.live) == (Result.UNKNOWN, scene.back)
    seen = f"0 new and 2 old workers accept requests; nginx reports {scene.to}"
    assert said.said == f"the live link points to {scene.back}; {seen}; the reload command ended with 3"


TOOLS = (
    *(
        "sh",
        "flock",
        "setsid",
        "timeout",
        "dd",
        "mkdir",
        "rm",
        "mv",
        "ln",
        "sync",
        "head",
        "tail",
        "tr",
        "sleep",
        "ls",
        "cat",
        "stat",
    ),
    *("truncate", "readlink", "date", "wc", "id", "grep"),
)


def tools(folder, *more):
    """A PATH with what every host has, and `more`."""
    folder.mkdir()
    for tool in (*TOOLS, *more):
        if found := shutil.which(tool):
            (folder / tool).symlink_to(found)
    return f"{folder}"


@pytest.mark.parametrize(("more", "result"), [(("bash",), Result.OK), (("curl",), Result.OK), ((), Result.UNKNOWN)])
def test_nginx_is_asked_with_bash_or_curl_and_else_nothing_is_claimed(scene, tmp_path, more, result):
    if more and not shutil.which(*more):
        pytest.skip(f"no {more} here")
    path = tools(tmp_path / "bin", *more)
    scene.swap()
    argv = deadman.arm_argv(scene.nginx, scene.watch)
    assert HOST.run(("env", f"PATH={path}", *argv), deadline=20).exit == 0
    said = scene.vanish()
    assert (said.result, said.live, scene.lab.marker()) == (result, scene.back, scene.back)
    assert said.said.endswith(f"nginx reports {scene.back}" if more else "nginx was not asked: there is no bash and no curl")


@pytest.mark.parametrize("mode", ["ok", "error", "hang"])
@pytest.mark.parametrize("more", [("bash",), ("curl",)])
def test_a_way_back_whose_servers_are_dead_is_not_taken(scene, tmp_path, more, mode):
    """In one upstream no server takes connections, or the only one that does answers 502, or nothing."""
    path = tools(tmp_path / "bin", *more)
    server, dead = scene.lab.backend("A", 1), f"127.0.0.1:{free_port('127.0.0.1')}"
    server.mode(mode)
    servers = (asked("app", dead), asked("app", server.address), asked("api", dead, "/"), asked("api", "[::1]:1", "/"))
    servers = servers if mode == "ok" else (*servers, asked("api", server.address, "/healthz"))
    watch = msgspec.structs.replace(scene.watch, servers=servers)
    scene.swap()
    assert HOST.run(("env", f"PATH={path}", *deadman.arm_argv(scene.nginx, watch)), deadline=20).exit == 0
    fired = scene.vanish()
    server.mode("ok")
    assert (fired.result, scene.live, scene.lab.marker()) == (Result.HOLD, scene.to, scene.to), fired
    assert f"api: 0 of {len(servers) - 2} servers of the former pool are alive" in fired.said


def asked(upstream, address, path="", *, is_new=False):
    return Asked(upstream=upstream, address=address, path=path, statuses="23" if path else "", is_new=is_new)


@pytest.mark.parametrize("more", [("bash",), ("curl",)])
@pytest.mark.parametrize(("mode", "is_taken"), [("sick", False), ("refused", True)])
def test_a_way_back_half_of_which_answers_wrongly_is_not_taken_over_a_healthy_pool(scene, tmp_path, more, mode, is_taken):
    path = tools(tmp_path / "bin", *more)
    new, dead = scene.lab.backend("B", 1), f"127.0.0.1:{free_port('127.0.0.1')}"
    with Lab(scene.lab.place.binary, SMALL) as other:
        wrong = other.backend("A", 1)
        if mode != "refused":
            wrong.mode(mode)
        servers = (
            asked("app", scene.lab.backend("A", 1).address, "/healthz"),
            asked("app", dead if mode == "refused" else wrong.address, "/healthz"),
            asked("app", new.address, "/healthz", is_new=True),
        )
        scene.swap()
        argv = deadman.arm_argv(scene.nginx, msgspec.structs.replace(scene.watch, servers=servers))
        assert HOST.run(("env", f"PATH={path}", *argv), deadline=20).exit == 0
        fired = scene.vanish()
    assert (fired.result, scene.live) == ((Result.OK, scene.back) if is_taken else (Result.HOLD, scene.to)), fired
    assert "app: 1 of 2 servers of the former pool are alive, 1 of 1 of the new pool" in fired.said


def test_a_way_back_with_one_server_that_lives_is_taken(scene):
    dead = f"127.0.0.1:{free_port('127.0.0.1')}"
    scene.swap()
    scene.arm(servers=(asked("app", dead, "/"), asked("app", scene.lab.backend("A", 1).address, "/healthz")))
    assert scene.vanish().result is Result.OK


# ---- what it leaves ----


def test_a_torn_last_line_of_the_journal_is_cut_off(scene):
    scene.swap()
    scene.arm()
    with (scene.folder / "journal.jsonl").open("ab") as journal:
        journal.write(b'{"kind":"ended","run":"x')
    said = scene.vanish()
    assert [type(record) for record in runs.decode((scene.folder / "journal.jsonl").read_bytes())] == [Started, Fired]
    assert scene.journal.read()[-1].fired == said


@pytest.mark.parametrize("is_prepared", [True, False])
def test_a_full_disk_stops_neither_the_way_back_nor_the_word_about_it(one_nginx, is_prepared):
    with ExitStack() as stack:
        lab = stack.enter_context(Lab(one_nginx, SMALL))
        disk = stack.enter_context(tiny_disk(lab.folder / "disk", "512k"))
        nginx = msgspec.structs.replace(lab.site.nginx, dir=f"{disk}/up", state=f"{disk}/state")
        shutil.copytree(lab.place.dir, nginx.dir, symlinks=True)
        (disk / "state").mkdir()
        conf = lab.folder / "nginx.conf"
        conf.write_text(conf.read_text().replace(lab.place.dir, nginx.dir))
        lab.renew()
        scene = Scene(lab, nginx)
        stack.callback(scene.end)
        journal = scene.folder / "journal.jsonl"
        if is_prepared:
            scene.journal.prepare()
        else:  # ten bytes are left in its last page
            written = journal.read_bytes()
            journal.write_bytes(written.replace(b'"reason":""', b'"reason":"%s"' % (b"x" * (4086 - len(written)))))
        scene.swap()
        scene.arm()
        scene.lease(1)
        before = journal.read_bytes()
        assert before.count(b"\n") == 1
        fill(disk)
        said = scene.await_done()
        assert (said.result, said.live, lab.marker(), scene.epoch) == (Result.OK, scene.back, scene.back, 10)
        assert journal.read_bytes() == before + (runs.encode(said) if is_prepared else b"")
        assert deadman.disarm(HOST, nginx, RUN).fired == said


def test_the_epoch_is_one_number_whatever_was_there(bare):
    for text, after in (("9", 10), ("garbage\n", 1), ("08\n", 1), ("", 1)):
        (bare.folder / "epoch").write_text(text)
        assert arm_bare(bare).result is Result.OK
        bare.lease(-10)
        bare.await_done()
        assert (bare.folder / "epoch").read_text() == f"{after}\n"
        bare.end()
        bare.lease(600)
        shutil.rmtree(bare.run_folder)


@pytest.mark.parametrize("lease", [None, "soon", "99999999"])
def test_a_lease_that_cannot_be_read_is_one_of_ten_seconds_from_the_arming_on(bare, lease):
    path = bare.folder / "lease"
    path.unlink() if lease is None else path.write_text(lease)
    began = uptime()
    assert arm_bare(bare, grace=-9).result is Result.OK  # nine seconds are over beforehand
    bare.await_done()
    assert 1 <= uptime() - began <= 6


def test_a_lease_that_goes_missing_counts_as_the_one_at_the_arming_and_ten_seconds(bare):
    bare.lease(-7)
    assert arm_bare(bare, grace=8).result is Result.OK
    (bare.folder / "lease").unlink()
    armed = uptime()
    until(lambda: uptime() > armed + 2, what="more than what was left of the lease")
    assert bare.marks == {Mark.ARMED}


# ---- disarming ----


def test_disarmed_in_time_it_never_acts(scene):
    scene.swap()
    scene.arm()
    disarmed = deadman.disarm(HOST, scene.nginx, RUN)
    assert (disarmed.result, disarmed.fired) == (Result.OK, None)
    scene.lease(-10)
    until(lambda: not scene.is_watched(), what="the end of the watcher")
    assert (scene.live, scene.lab.marker(), scene.epoch, scene.marks) == (scene.to, scene.to, 9, {Mark.DISARMED})
    assert deadman.disarm(HOST, scene.nginx, RUN).result is Result.OK
    assert deadman.look(HOST, scene.nginx) is None


def test_disarmed_too_late_it_says_what_was_done(scene):
    scene.swap()
    scene.arm(reload=("sh", "-c", 'sleep 0.5; exec "$@"', "sh", *scene.nginx.reload))
    scene.lease(-10)
    until(lambda: Mark.FIRED in scene.marks, what="the fire")
    assert deadman.look(HOST, scene.nginx).text == f"the dead-man of run {RUN} rolls it back now"
    assert deadman.disarm(HOST, scene.nginx, RUN, wait=0).result is Result.UNKNOWN
    disarmed = deadman.disarm(HOST, scene.nginx, RUN)
    assert (disarmed.result, disarmed.fired, disarmed.said) == (Result.FAILED, scene.said, scene.said.said)
    assert scene.marks == {Mark.DONE}
    assert deadman.look(HOST, scene.nginx).text == f"the dead-man rolled run {RUN} back: {scene.said.said}"


def test_of_disarm_and_fire_exactly_one_wins(tmp_path):
    def race(number):
        nginx = Nginx(dir=f"{tmp_path}/{number}/up", state=f"{tmp_path}/{number}/state")
        store.prepare(HOST, nginx)
        state = State(nginx)
        state.lease(600)
        assert arm_bare(state).result is Result.OK
        state.lease(-10)
        begin = CLOCK.monotonic() + number / 1000
        until(lambda: CLOCK.monotonic() >= begin, what="its turn")
        disarmed = deadman.disarm(HOST, nginx, RUN)
        until(lambda: not state.is_watched(), what="the end of the watcher")
        is_fired = (state.folder / "epoch").exists()
        assert state.marks == {Mark.DONE if is_fired else Mark.DISARMED}
        assert disarmed.result is (Result.FAILED if is_fired else Result.OK)
        assert (disarmed.fired is not None) == is_fired
        return is_fired

    with ThreadPoolExecutor(4) as pool:
        fired = [*pool.map(race, range(50))]
    assert len(fired) == 50


def test_a_run_that_was_never_armed_is_disarmed_for_good(bare):
    assert deadman.disarm(HOST, msgspec.structs.replace(bare.nginx, state="/nowhere/at/all"), RUN).result is Result.OK
    assert deadman.disarm(HOST, bare.nginx, RUN).result is Result.OK
    late = arm_bare(bare)
    assert late.result is Result.FAILED
    assert f"run {RUN} had a dead-man before" in late.said


# ---- the lock ----


def test_a_repair_that_holds_the_lock_disarms_before_anything_is_done(bare):
    assert arm_bare(bare, lock_wait=10.0).result is Result.OK
    with holding(bare):
        bare.lease(-10)
        until(lambda: bare.runs_now("flock"), what="the watcher at the lock")
        assert deadman.disarm(HOST, bare.nginx, RUN).result is Result.OK
    until(lambda: not bare.is_watched(), what="the end of the watcher")
    assert (bare.marks, (bare.folder / "epoch").exists()) == ({Mark.DISARMED}, False)


def test_a_lease_renewed_while_it_waits_for_the_lock_keeps_it_quiet(bare):
    assert arm_bare(bare, lock_wait=10.0).result is Result.OK
    with holding(bare):
        bare.lease(-10)
        until(lambda: bare.runs_now("flock"), what="the watcher at the lock")
        bare.lease(600)
    until(lambda: bare.runs_now("sleep"), what="its next look")
    assert (bare.marks, (bare.folder / "epoch").exists()) == ({Mark.ARMED}, False)


def test_a_frozen_holder_of_the_lock_stops_nothing_and_is_outdated(scene):
    scene.swap()
    scene.arm()
    with holding(scene) as holder:
        os.kill(holder.pid, signal.SIGSTOP)
        said = scene.vanish()
    assert (said.result, scene.lab.marker(), scene.epoch) == (Result.OK, scene.back, 10)
    assert said.said.endswith("; the process that armed it still holds the lock")


@pytest.mark.parametrize(("more", "number"), [(("bash",), 40), ((), 7), ((), 40)])
def test_its_watcher_never_keeps_the_lock(bare, tmp_path, more, number):
    """A shell that can't close a high descriptor does not bring the watcher up: better none than one that blocks every repair."""
    path = tools(tmp_path / "bin", *more)
    is_bash = more or HOST.run(("sh", "-c", '[ -n "$BASH_VERSION" ]'), deadline=5).exit == 0
    armed = 0 if is_bash or number < 10 else Exit.NOT_UP
    held = f'exec {number}<>"$1" && flock {number} && export PATH="$2" && shift 2 && exec "$@"'
    ran = HOST.run(("bash", "-c", held, "bash", f"{bare.folder}/lock", path, *_bare_argv(bare)), deadline=20)
    assert ran.exit == armed, ran
    assert bare.marks == {Mark.DISARMED if armed else Mark.ARMED}
    assert HOST.run(("flock", "-n", f"{bare.folder}/lock", "true"), deadline=5).exit == 0


def _bare_argv(state):
    watch = DeadMan(run=RUN, to="000002-B", base="000001-A", back="000003-A", reload=("false",), marker="127.0.0.1:9", **QUICK)
    return deadman.arm_argv(state.nginx, watch)


# ---- arming ----


def test_arming_makes_private_files_and_outdates_the_watchers_of_other_runs(bare):
    assert arm_bare(bare, run="older").result is Result.OK
    older = State(bare.nginx)
    older.run_folder = bare.folder / "deadman" / "older"
    assert arm_bare(bare).result is Result.OK
    until(lambda: not older.is_watched(), what="the end of the older watcher")
    assert (older.marks, bare.marks) == ({Mark.DISARMED}, {Mark.ARMED})
    assert {path.stat().st_mode & 0o077 for path in (bare.folder / "deadman").rglob("*")} == {0}


def test_only_the_last_runs_are_kept(bare):
    for number in range(8):
        assert arm_bare(bare, run=f"run-{number}").result is Result.OK
    kept = sorted(os.listdir(bare.folder / "deadman"))
    deadman.disarm(HOST, bare.nginx, "run-7")
    assert kept == [f"run-{number}" for number in (3, 4, 5, 6, 7)]


def test_a_dead_man_that_cannot_start_is_a_failure(bare, tmp_path):
    path = tools(tmp_path / "bin")
    (tmp_path / "bin" / "setsid").unlink()
    (tmp_path / "bin" / "setsid").symlink_to("/bin/true")
    assert HOST.run(("env", f"PATH={path}", *_bare_argv(bare)), deadline=20).exit == Exit.NOT_UP
    assert bare.marks == {Mark.DISARMED}
    took = deadman.arm(HOST, msgspec.structs.replace(bare.nginx, state="/nowhere"), DeadMan(**_fields()))
    assert took.result is Result.FAILED
    assert took.said.startswith("/nowhere/deadman can't be used")


def _fields():
    return {"run": RUN, "to": "000002-B", "base": "000001-A", "back": "000003-A", "reload": ("false",), "marker": "127.0.0.1:9"}


def test_a_host_whose_tools_cannot_do_it_is_told_at_the_arming(bare, tmp_path):
    path = tools(tmp_path / "bin")
    flock = tmp_path / "bin" / "flock"
    flock.unlink()
    flock.write_text("#!/bin/sh\necho 'flock: unrecognized option: w' >&2\nexit 1\n")
    flock.chmod(0o755)
    ran = HOST.run(("env", f"PATH={path}", *_bare_argv(bare)), deadline=20)
    assert (ran.exit, ran.err) == (95, b"flock: unrecognized option: w\n")
    assert os.listdir(bare.folder / "deadman") == []


@pytest.mark.parametrize("change", [{"reload": ()}, {"reload": ("a\nb",)}, {"pid_file": "\n"}, {"run": "../x"}, {"run": ""}])
def test_orders_that_are_not_one_line_each_are_refused(change):
    with pytest.raises(ValueError, match="no "):
        deadman.arm_argv(Nginx(), DeadMan(**{**_fields(), **change}))


UNDER_SYSTEMD = pytest.mark.skipif(
    os.geteuid() != 0 or not Path("/run/systemd/private").is_socket(), reason="no systemd runs here: test_systemd.py boots one"
)
UNIT = f"upswitch-deadman-{RUN}.service"


def is_loaded():
    said = HOST.run(("systemctl", "show", "--property=LoadState", UNIT), deadline=5).out
    return said != b"LoadState=not-found\n"


@UNDER_SYSTEMD
def test_under_systemd_it_is_a_unit_that_acts_and_is_gone(scene):
    scene.swap()
    scene.arm()
    assert UNIT in Path(f"/proc/{scene.watcher}/cgroup").read_text()
    assert is_loaded()
    said = scene.vanish()
    assert (said.result, said.live, scene.lab.marker()) == (Result.OK, scene.back, scene.back)
    until(lambda: not is_loaded(), what="the end of the unit")


@UNDER_SYSTEMD
def test_under_systemd_it_is_disarmed(scene):
    scene.swap()
    scene.arm()
    assert deadman.disarm(HOST, scene.nginx, RUN).result is Result.OK
    until(lambda: not is_loaded(), what="the end of the unit")
    assert (scene.live, scene.lab.marker()) == (scene.to, scene.to)


SYSTEMD_RUN = """#!/bin/sh
printf '%s\\n' "$@" > FOLDER/asked
[ ! -e FOLDER/refuses ] || exit 1
while case $1 in --*) true ;; *) false ;; esac; do shift; done
env -i setsid "$@" </dev/null >/dev/null 2>&1 &
"""


@pytest.mark.parametrize("refuses", [False, True])
def test_systemd_starts_the_watcher_where_it_runs_and_is_done_without_where_it_refuses(bare, tmp_path, refuses):
    """A stand-in for systemd-run, in a mount namespace of its own where systemd seems to run."""
    if os.geteuid() != 0 or HOST.run(("unshare", "-m", "true"), deadline=5).exit != 0:
        pytest.skip("a mount namespace of its own needs root")
    path = tools(tmp_path / "bin", "env", "bash")
    script = tmp_path / "bin" / "systemd-run"
    script.write_text(SYSTEMD_RUN.replace("FOLDER", f"{tmp_path}"))
    script.chmod(0o755)
    if refuses:
        (tmp_path / "refuses").touch()
    booted = 'mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/system && export PATH="$1" && shift && exec "$@"'
    ran = HOST.run(("unshare", "-m", "sh", "-c", booted, "sh", path, *_bare_argv(bare)), deadline=20)
    assert ran.exit == 0, ran
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked[:4] == ["--collect", "--quiet", "--no-ask-password", f"--unit=upswitch-deadman-{RUN}"]
    assert asked[4:] == ["/bin/sh", f"{bare.run_folder}/watcher", f"{bare.run_folder}"]
    bare.lease(-10)
    assert bare.await_done().result is Result.FAILED


# ---- a watcher that is killed ----


def test_a_killed_watcher_is_said_to_be_gone_and_can_be_disarmed(bare):
    assert deadman.look(HOST, bare.nginx) is None
    assert arm_bare(bare).result is Result.OK
    assert deadman.look(HOST, bare.nginx).text == f"the dead-man of run {RUN} is armed"
    os.kill(bare.watcher, signal.SIGTERM)
    until(lambda: not bare.is_watched(), what="the end of the watcher")
    standing = deadman.look(HOST, bare.nginx)
    assert (standing.mark, standing.is_alive) == (Mark.ARMED, False)
    assert standing.text == f"the dead-man of run {RUN} is armed, but its watcher is gone"
    assert deadman.disarm(HOST, bare.nginx, RUN).result is Result.OK
    assert deadman.look(HOST, bare.nginx) is None


WRAPPED = ("mv", "sync", "dd", "truncate", "readlink", "timeout", "date", "tail", "stat")
KILLER = """#!/bin/sh
# Runs the tool; at the call whose turn it is the watcher dies instead.
[ -e FOLDER/turn ] || exec TOOL "$@"
echo >> FOLDER/calls
[ "$(wc -l < FOLDER/calls)" = "$(cat FOLDER/turn)" ] || exec TOOL "$@"
read -r pid start < UP
kill -9 "$pid"
"""


def mortal(folder, up):
    """A PATH whose tools kill the watcher at a chosen call."""
    path = Path(tools(folder / "bin", "bash"))
    for tool in WRAPPED:
        real = os.readlink(path / tool)
        (path / tool).unlink()
        (path / tool).write_text(KILLER.replace("TOOL", real).replace("FOLDER", f"{folder}").replace("UP", f"{up}"))
        (path / tool).chmod(0o755)
    return f"{path}"


def killed_at(turn, folder):
    """A watcher that dies at its `turn`th call of a tool, on a host whose nginx is gone; the state that it leaves."""
    nginx = Nginx(dir=f"{folder}/up", state=f"{folder}/state")
    store.prepare(HOST, nginx)
    for name in ("000001-A", "000002-B", "000003-A"):
        assert store.stage(HOST, nginx, {name: {"marker.conf": b"", "manifest.json": b"{}"}}).result is Result.OK
    Path(nginx.live).symlink_to("generations/000002-B")
    Path(nginx.dir, ".live.back").symlink_to("generations/000003-A")
    state = State(nginx)
    state.lease(600)
    (state.folder / "epoch").write_text("9\n")
    (state.folder / "journal.jsonl").write_bytes(runs.encode(Started(plan=PLAN, at=CLOCK.now())))
    path = mortal(folder, state.run_folder / "up")
    assert HOST.run(("env", f"PATH={path}", *_bare_argv(state)), deadline=20).exit == 0
    (folder / "turn").write_text(f"{turn}\n")
    state.lease(-10)
    until(lambda: not state.is_watched(), what="the end of the watcher")
    return state


def test_killed_at_any_of_its_steps_the_link_is_whole_and_a_repair_is_told_the_truth(tmp_path):
    endings = []
    while (Mark.DONE, True) not in endings:
        turn = len(endings) + 1
        folder = tmp_path / f"{turn}"
        folder.mkdir()
        state = killed_at(turn, folder)
        seen = deadman.look(HOST, state.nginx)
        disarmed = deadman.disarm(HOST, state.nginx, RUN)
        endings.append((seen.mark, disarmed.fired is not None))
        assert not seen.is_alive
        is_untouched = seen.mark is Mark.ARMED
        assert state.marks == {Mark.DISARMED if is_untouched else Mark.DONE}
        assert disarmed.result is (Result.OK if is_untouched else Result.FAILED)
        live = os.readlink(state.nginx.live)
        assert live == "generations/000002-B" or (live == "generations/000003-A" and not is_untouched)
        assert state.epoch == 9 or (state.epoch == 10 and not is_untouched)
        told = [run.fired for run in journal_of(HOST, state.nginx).read() if run.fired]
        assert told in ([], [disarmed.fired])
    assert [*dict.fromkeys(endings)] == [(Mark.ARMED, False), (Mark.FIRED, False), (Mark.FIRED, True), (Mark.DONE, True)]
    assert len(endings) >= 12


def test_killed_while_nginx_is_asked_to_reload_it_is_said_to_have_been_killed(scene):
    scene.swap()
    scene.arm(reload=("sh", "-c", f"read -r pid start < '{scene.run_folder}/up' && kill -9 $pid"))
    scene.lease(-10)
    until(lambda: not scene.is_watched(), what="the end of the watcher")
    standing = deadman.look(HOST, scene.nginx)
    assert standing.text == f"the dead-man of run {RUN} fired, and was killed before it had finished"
    disarmed = deadman.disarm(HOST, scene.nginx, RUN)
    assert (disarmed.result, disarmed.said, disarmed.fired) == (Result.FAILED, standing.text, None)
    assert (scene.live, scene.lab.marker(), scene.marks) == (scene.back, scene.to, {Mark.DONE})
    assert scene.journal.read()[-1].fired is None
