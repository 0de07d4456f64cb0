"""Generations on real folders: complete or not there, one link that is never missing, and no bytes but ours."""

import os
import shutil
import signal
import subprocess
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from hostcontract import fill, tiny_disk
from upswitch.basics.errors import HostError, UntrustedError
from upswitch.basics.result import Result
from upswitch.generations import store
from upswitch.generations.generation import Manifest, with_manifest
from upswitch.hosts import sh
from upswitch.hosts.clock import SystemClock
from upswitch.hosts.local.host import LocalHost
from upswitch.nginx import commands
from upswitch.nginx.build import parse_build
from upswitch.site.model import Nginx
from upswitch_lab.process import until

BUILD = parse_build("nginx version: nginx/1.26.0")
HOST = LocalHost(SystemClock())


def files(name, *, size=20):
    conf = {"app.conf": b"#" * size, "marker.conf": f"# {name}".encode()}
    return with_manifest(conf, Manifest(name=name, pool=name[7:], sha256={}))


def packed(*names, size=20):
    return store.pack({f"{name}/{file}": data for name in names for file, data in files(name, size=size).items()})


@pytest.fixture
def nginx(tmp_path):
    """Generation 1 is live, 2 is staged."""
    nginx = Nginx(dir=f"{tmp_path}/up", state=f"{tmp_path}/state", conf=f"{tmp_path}/nginx.conf")
    store.prepare(HOST, nginx)
    for name in ("000001-A", "000002-B"):
        assert store.stage(HOST, nginx, {name: files(name)}).result is Result.OK
    Path(nginx.live).symlink_to("generations/000001-A")
    return nginx


def live(nginx):
    return os.readlink(nginx.live)


def generations(nginx):
    return sorted(os.listdir(f"{nginx.dir}/generations"))


def run(argv):
    return HOST.run(argv, deadline=20)


# ---- staging ----


def test_a_generation_is_written_byte_for_byte_and_others_cannot_read_it(nginx):
    folder = Path(nginx.dir, "generations/000002-B")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files("000002-B") == store.get(HOST, nginx, "000002-B")
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o640}


def test_an_existing_generation_is_never_overwritten(nginx):
    took = store.stage(HOST, nginx, {"000002-B": files("000002-B", size=99)})
    assert (took.result, took.said) == (Result.FAILED, f"{nginx.dir}/generations/000002-B exists already")
    assert store.get(HOST, nginx, "000002-B") == files("000002-B")
    assert generations(nginx) == ["000001-A", "000002-B"]


def test_a_stage_that_is_killed_leaves_no_generation_and_the_next_one_succeeds(nginx):
    name, temp = "000003-A", Path(nginx.dir, "generations/.000003-A.tmp/000003-A")
    data = packed(name, size=300_000)
    with subprocess.Popen(store.stage_argv(nginx.dir, (name,)), stdin=subprocess.PIPE, start_new_session=True) as script:
        script.stdin.write(data[:200_000])
        script.stdin.flush()
        until((temp / "app.conf").exists, what="the first file")
        os.killpg(script.pid, signal.SIGKILL)
    assert generations(nginx) == [".000003-A.tmp", "000001-A", "000002-B"]
    assert [found.name for found in store.read_disk(HOST, nginx).generations] == ["000001-A", "000002-B"]
    assert store.stage(HOST, nginx, {name: files(name)}).result is Result.OK
    assert generations(nginx) == ["000001-A", "000002-B", "000003-A"]


@pytest.mark.parametrize("cut", [0, 100, 512, 1024, 1500, 1536, 2000, 2048, 3072, 4096, 5000, 5632])
def test_a_torn_tar_is_no_generation(nginx, cut):
    names = ("000003-A", "000004-B")
    ran = HOST.run(store.stage_argv(nginx.dir, names, back="000004-B"), deadline=20, stdin=packed(*names)[:cut])
    assert ran.exit != 0
    assert generations(nginx) == ["000001-A", "000002-B"]
    assert not os.path.lexists(f"{nginx.dir}/.live.back")


def test_several_generations_and_the_link_for_a_rollback_are_written_at_once(nginx):
    names = ("000003-A", "000004-B")
    took = store.stage(HOST, nginx, {name: files(name) for name in names}, back="000004-B")
    assert took.result is Result.OK
    assert [store.get(HOST, nginx, name) for name in names] == [files(name) for name in names]
    assert os.readlink(f"{nginx.dir}/.live.back") == "generations/000004-B"


def test_if_one_of_several_generations_exists_none_is_written(nginx):
    took = store.stage(HOST, nginx, {name: files(name) for name in ("000003-A", "000002-B")}, back="000003-A")
    assert (took.result, took.said) == (Result.FAILED, f"{nginx.dir}/generations/000002-B exists already")
    assert generations(nginx) == ["000001-A", "000002-B"]


def test_a_full_disk_is_reported_and_nothing_is_left_behind(tmp_path):
    with tiny_disk(tmp_path / "disk") as disk:
        nginx = Nginx(dir=f"{disk}/up", state=f"{disk}/state")
        store.prepare(HOST, nginx)
        fill(disk)
        took = store.stage(HOST, nginx, {"000001-A": files("000001-A", size=50_000)})
        assert took.result is Result.FAILED
        assert "No space left on device" in took.said
        assert generations(nginx) == []


def test_a_generation_that_does_not_exist_cannot_be_read(nginx):
    with pytest.raises(HostError, match=r"read .*000009-A: "):
        store.get(HOST, nginx, "000009-A")


# ---- the swap ----


def test_the_link_moves_only_from_where_it_was_expected(nginx):
    moved = store.point(HOST, nginx, expect="000001-A", to="000002-B")
    assert (moved.result, live(nginx)) == (Result.OK, "generations/000002-B")
    stale = store.point(HOST, nginx, expect="000001-A", to="000001-A")
    assert (stale.result, live(nginx)) == (Result.FAILED, "generations/000002-B")
    assert run(store.swap_argv(nginx.dir, expect="000001-A", to="000001-A")).exit == sh.Exit.CHANGED == 96


def test_a_generation_that_is_missing_or_incomplete_never_becomes_live(nginx):
    assert run(store.swap_argv(nginx.dir, expect="000001-A", to="000009-A")).exit == sh.Exit.NOT_THERE == 97
    Path(nginx.dir, "generations/000002-B/marker.conf").unlink()
    took = store.point(HOST, nginx, expect="000001-A", to="000002-B")
    assert (took.result, took.said, live(nginx)) == (Result.FAILED, "generation 000002-B does not exist", "generations/000001-A")


def test_a_folder_where_the_link_should_be_is_not_touched(nginx):
    Path(nginx.live).unlink()
    Path(nginx.live).mkdir()
    assert store.point(HOST, nginx, expect="000001-A", to="000002-B").result is Result.FAILED
    assert os.listdir(nginx.live) == []


def test_a_link_that_cannot_be_changed_is_a_failure_that_names_it(tmp_path):
    with tiny_disk(tmp_path / "disk", "512k") as disk:
        nginx = Nginx(dir=f"{disk}/up", state=f"{disk}/state")
        store.prepare(HOST, nginx)
        for name in ("000001-A", "000002-B"):
            store.stage(HOST, nginx, {name: files(name)})
        Path(nginx.live).symlink_to("generations/000001-A")
        subprocess.run(("mount", "-o", "remount,ro", disk), check=True)
        took = store.point(HOST, nginx, expect="000001-A", to="000002-B")
        assert (took.result, live(nginx)) == (Result.FAILED, "generations/000001-A")
        assert "Read-only file system" in took.said


def test_what_a_killed_swap_left_does_not_stop_the_next_one(nginx):
    Path(nginx.dir, ".live.tmp").symlink_to("generations/000009-Z")
    assert store.point(HOST, nginx, expect="000001-A", to="000002-B").result is Result.OK
    assert sorted(os.listdir(nginx.dir)) == ["generations", "live"]


def test_a_reader_of_the_live_link_always_finds_one_whole_generation(nginx):
    seen, over = set(), threading.Event()

    def read():
        while not over.is_set():
            seen.add(Path(nginx.live, "marker.conf").read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    names = ["000001-A", "000002-B"]
    for at in range(60):
        assert store.point(HOST, nginx, expect=names[at % 2], to=names[(at + 1) % 2]).result is Result.OK
    until(lambda: len(seen) == 2 or not reader.is_alive(), what="both generations")
    over.set()
    reader.join()
    assert seen == {b"# 000001-A", b"# 000002-B"}


# ---- pruning ----


def test_pruning_deletes_the_named_generations_but_never_the_live_one(nginx):
    Path(nginx.dir, "generations/.000002-B.tmp").mkdir()
    assert run(store.prune_argv(nginx.dir, ("000001-A", "000002-B", "000009-Z"))).exit == 0
    assert generations(nginx) == ["000001-A"]
    assert store.get(HOST, nginx, "000001-A") == files("000001-A")


# ---- looking ----


def test_in_a_folder_with_foreign_names_only_our_generations_are_found(nginx):
    folder = Path(nginx.dir, "generations")
    for odd in ("x\ngeneration 000999-Z", "x\nlive 000002-B", "a b", "-rf", "000007-A B", "000008-é"):
        (folder / odd).mkdir()
    (folder / "000003-A").write_bytes(b"a file")
    (folder / "000004-A").symlink_to("nowhere")
    disk = store.read_disk(HOST, nginx)
    assert (disk.live, [found.name for found in disk.generations]) == ("000001-A", ["000001-A", "000002-B"])
    assert (disk.manifest.name, disk.drift) == ("000001-A", ())


@pytest.mark.parametrize(
    ("change", "drift"),
    [
        (lambda folder: (folder / "app.conf").write_bytes(b"edited"), ("app.conf",)),
        (lambda folder: (folder / "app.conf").unlink(), ("app.conf",)),
        (lambda folder: (folder / "with space.conf").write_bytes(b""), ("with space.conf",)),
        (lambda folder: (folder / "dangling.conf").symlink_to("nowhere"), ("dangling.conf",)),
        (lambda folder: (folder / "folder.conf").mkdir(), ("folder.conf",)),
        (lambda folder: (folder / "app.conf.bak").write_bytes(b"nginx does not read it"), ()),
        (lambda folder: (folder / "manifest.json").unlink(), ("manifest.json",)),
        (lambda folder: (folder / "manifest.json").write_bytes(b"{"), ("manifest.json",)),
    ],
)
def test_a_live_file_that_is_not_as_it_was_staged_is_drift(nginx, change, drift):
    change(Path(nginx.dir, "generations/000001-A"))
    assert store.read_disk(HOST, nginx).drift == drift


def test_a_live_file_with_a_line_break_in_its_name_is_drift_and_hides_no_other(nginx):
    folder = Path(nginx.live)
    (folder / f"x\nsum {'0' * 64}  app.conf").write_bytes(b"")
    (folder / "x\nmanifest {}.conf").write_bytes(b"")
    disk = store.read_disk(HOST, nginx)
    assert (len(disk.drift), disk.manifest.name) == (2, "000001-A")
    assert "app.conf" not in disk.drift


@pytest.mark.parametrize(
    "target", ["/etc", "generations", "generations/../..", "000001-A", "generations/000001-A/", "generations/x\n"]
)
def test_a_link_that_does_not_point_to_a_generation_is_not_a_live_link(nginx, target):
    Path(nginx.live).unlink()
    Path(nginx.live).symlink_to(target)
    assert store.read_disk(HOST, nginx).live == ""


def test_without_the_folder_no_generation_is_live(tmp_path):
    assert store.read_disk(HOST, Nginx(dir=f"{tmp_path}/nowhere")) == store.Disk()


# ---- our folders ----


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o1777])
def test_a_state_folder_that_others_may_write_is_refused(nginx, mode):
    Path(nginx.state).chmod(mode)
    with pytest.raises(UntrustedError, match="other users may write it") as caught:
        store.prepare(HOST, nginx)
    assert (caught.value.path, caught.value.fix) == (nginx.state, f"chmod go-w {nginx.state}")
    subprocess.run(caught.value.fix, shell=True, check=True)
    store.prepare(HOST, nginx)


def test_a_state_folder_that_is_a_link_or_belongs_to_another_user_is_refused(nginx, tmp_path):
    shutil.rmtree(nginx.state)
    (tmp_path / "elsewhere").mkdir()
    Path(nginx.state).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(HostError, match="is a link"):
        store.prepare(HOST, nginx)
    if os.geteuid() == 0:
        Path(nginx.state).unlink()
        Path(nginx.state).mkdir()
        os.chown(nginx.state, 12345, 12345)
        with pytest.raises(HostError, match=r"it belongs to UNKNOWN \(12345\)"):
            store.prepare(HOST, nginx)


def test_our_folders_are_made_private_and_making_them_again_changes_nothing(nginx):
    store.prepare(HOST, nginx)
    assert Path(nginx.state).stat().st_mode & 0o777 == 0o700
    assert Path(nginx.dir).stat().st_mode & 0o777 == 0o755
    assert live(nginx) == "generations/000001-A"


# ---- the test with the candidate swapped in ----


@contextmanager
def swapped_in(nginx, tmp_path):
    """The swapped test with an nginx that takes as long as the file `hold` is there."""
    binary, hold = tmp_path / "nginx", tmp_path / "hold"
    hold.touch()
    binary.write_text(f'#!/bin/sh\nreadlink "{nginx.live}" > "{tmp_path}/seen"\nwhile [ -e "{hold}" ]; do sleep 0.02; done\n')
    binary.chmod(0o755)
    slow = Nginx(binary=f"{binary}", dir=nginx.dir, conf=nginx.conf)
    argv = commands.test_swapped(slow, BUILD, live="000001-A", candidate="000002-B")
    with subprocess.Popen(argv, start_new_session=True) as script:
        until(lambda: (tmp_path / "seen").exists() and (tmp_path / "seen").read_text() != "", what="the test")
        assert (tmp_path / "seen").read_text() == "generations/000002-B\n"
        yield script
        hold.unlink()


@pytest.mark.parametrize(("binary", "code"), [("true", 0), ("false", 1), ("/nowhere", 127)])
def test_a_test_by_swapping_has_the_exit_code_of_nginx_and_puts_the_link_back(nginx, binary, code):
    tested = Nginx(binary=binary, dir=nginx.dir, conf=nginx.conf)
    assert run(commands.test_swapped(tested, BUILD, live="000001-A", candidate="000002-B")).exit == code
    assert sorted(os.listdir(nginx.dir)) == ["generations", "live"]
    assert live(nginx) == "generations/000001-A"
    assert run(commands.test_swapped(tested, BUILD, live="000002-B", candidate="000001-A")).exit == sh.Exit.CHANGED


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_test_by_swapping_puts_the_link_back_when_its_session_ends(nginx, tmp_path, number):
    with swapped_in(nginx, tmp_path) as script:
        os.killpg(script.pid, number)
        assert script.wait(10) == 143
        assert live(nginx) == "generations/000001-A"


def test_a_test_by_swapping_puts_the_link_back_when_only_its_shell_is_ended(nginx, tmp_path):
    with swapped_in(nginx, tmp_path) as script:
        os.kill(script.pid, signal.SIGTERM)
        (tmp_path / "hold").unlink()
        assert script.wait(10) == 143
        assert live(nginx) == "generations/000001-A"
        (tmp_path / "hold").touch()


def test_a_test_by_swapping_does_not_touch_a_link_that_was_moved_meanwhile(nginx, tmp_path):
    assert store.stage(HOST, nginx, {"000003-A": files("000003-A")}).result is Result.OK
    with swapped_in(nginx, tmp_path) as script:
        repaired = store.point(HOST, nginx, expect="000002-B", to="000003-A")
        assert repaired.result is Result.OK
        (tmp_path / "hold").unlink()
        assert script.wait(10) == 0
        assert live(nginx) == "generations/000003-A"
        (tmp_path / "hold").touch()


# ---- the drain flag ----


def watchers(flag, token):
    """Processes that would lower the flag for this token."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            argv = Path("/proc", pid, "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if argv[0] == b"sh" and flag.encode() in argv and token.encode() in argv:
            found.append(int(pid))
    return found


def test_a_drain_flag_is_removed_after_its_time(tmp_path):
    flag = f"{tmp_path}/run/drain"
    assert run(commands.raise_flag(flag, "r1", tenths=2)).exit == 0
    assert Path(flag).read_text() == "r1\n"
    assert (Path(flag).stat().st_mode & 0o777, Path(flag).parent.stat().st_mode & 0o777) == (0o644, 0o755)
    until(lambda: not os.path.exists(flag), what="the flag's end")
    until(lambda: not watchers(flag, "r1"), what="the watcher's end")


def test_removing_the_drain_flag_ends_the_process_behind_it(tmp_path):
    flag = f"{tmp_path}/drain"
    run(commands.raise_flag(flag, "r1", tenths=600))
    until(lambda: watchers(flag, "r1"), what="the watcher")
    assert run(commands.lower_flag(flag, "r1")).exit == 0
    until(lambda: not watchers(flag, "r1"), what="the watcher's end")
    assert run(commands.lower_flag(flag, "r1")).exit == 0  # lowered already


def test_an_earlier_run_does_not_remove_the_drain_flag_of_a_later_one(tmp_path):
    flag = f"{tmp_path}/drain"
    run(commands.raise_flag(flag, "r1", tenths=3))
    run(commands.raise_flag(flag, "r2", tenths=600))
    until(lambda: not watchers(flag, "r1"), what="the earlier watcher's end")
    assert Path(flag).read_text() == "r2\n"
    run(commands.lower_flag(flag, "r2"))
    until(lambda: not watchers(flag, "r2"), what="the watcher's end")


def test_a_drain_flag_that_two_sites_share_stays_up_until_the_last_of_them_lowers_it(tmp_path):
    flag = Path(tmp_path, "drain")
    for token in ("r1.1.", "r2.1.", "r1.2."):
        assert run(commands.raise_flag(str(flag), token, tenths=600)).exit == 0
    run(commands.lower_flag(str(flag), "r1."))
    assert flag.read_text() == "r2.1.\n"
    until(lambda: not watchers(str(flag), "r1."), what="the end of the watchers of r1")
    run(commands.lower_flag(str(flag), "r2."))
    assert not flag.exists()
    until(lambda: not watchers(str(flag), "r2."), what="the watcher's end")


def test_a_drain_flag_in_an_impossible_folder_is_an_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    assert run(commands.raise_flag(f"{tmp_path}/file/drain", "r1", tenths=2)).exit == 90
