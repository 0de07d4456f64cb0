"""What every Host must do. A test module subclasses HostContract and gives it a `host` fixture; files are on this machine."""

import contextlib
import os
import signal
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from upswitch.basics.errors import HostError
from upswitch.hosts.host import Host
from upswitch_lab.process import LabError, free_port, until

MIB = 1 << 20
ODD = ("", " ", "a b", "'", '"', "$HOME", "`id`", "\\", "line\nbreak\n", "tab\t", "ü€𝄞", "*", "--", "-n", ";", "&", "#", "\x7f")


@contextmanager
def tiny_disk(folder: Path, size: str = "64k") -> Iterator[Path]:
    """A file system of its own that is soon full."""
    if os.geteuid() != 0:
        pytest.skip("mounting a tmpfs needs root")
    folder.mkdir()
    mounted = subprocess.run(("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder), capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.decode()}")
    try:
        yield folder
    finally:
        subprocess.run(("umount", folder), check=True)


def fill(folder: Path) -> None:
    """Take every byte that is left."""
    with (folder / "ballast").open("wb", buffering=0) as ballast, contextlib.suppress(OSError):
        while ballast.write(b"x" * 512):
            pass


@contextmanager
def echoing(family: socket.AddressFamily, address: object) -> Iterator[socket.socket]:
    """A server that sends what it gets, for one connection after the other."""
    with socket.socket(family) as server:
        server.bind(address)
        server.listen()

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    stream, _ = server.accept()
                    with stream:
                        stream.sendall(stream.recv(100))

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server
        finally:
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            thread.join()


class RunContract:
    def test_the_exit_code_and_both_outputs_come_back(self, host: Host):
        ran = host.run(("sh", "-c", "printf out; printf err >&2; exit 41"), deadline=10)
        assert (ran.exit, ran.out, ran.err) == (41, b"out", b"err")
        assert host.run(("true",), deadline=10).exit == 0

    def test_a_command_that_outlives_its_deadline_has_no_exit_code_and_is_ended(self, host: Host, tmp_path):
        started = tmp_path / "pid"
        ran = host.run(("sh", "-c", 'echo $$ > "$1"; sleep 60; true', "sh", f"{started}"), deadline=0.5)
        assert ran.exit is None
        pid = int(started.read_text())
        until(lambda: not Path(f"/proc/{pid}").exists(), what="the end of the command")

    def test_a_deadline_ends_what_the_command_started_too(self, host: Host, tmp_path):
        started = tmp_path / "pid"
        ran = host.run(("sh", "-c", 'sleep 60 & echo $! > "$1"; wait', "sh", f"{started}"), deadline=0.5)
        assert ran.exit is None
        child = Path(f"/proc/{int(started.read_text())}/stat")
        until(lambda: not child.exists() or child.read_text().rpartition(")")[2].split()[0] == "Z", what="the end of the child")

    def test_a_child_that_keeps_the_outputs_open_does_not_hold_the_command(self, host: Host):
        began = time.monotonic()
        ran = host.run(("sh", "-c", "sleep 60 & printf %s $!; printf err >&2; exit 3"), deadline=40, stdin=b"x")
        try:
            assert (ran.exit, ran.err) == (3, b"err")
            assert time.monotonic() - began < 20
        finally:
            os.kill(int(ran.out), signal.SIGKILL)

    def test_a_missing_program_is_127(self, host: Host):
        ran = host.run(("/nowhere/at-all", "x"), deadline=10)
        assert ran.exit == 127
        assert b"/nowhere/at-all" in ran.err

    @pytest.mark.parametrize("number", ["TERM", "KILL", "SEGV"])
    def test_a_command_that_was_killed_has_no_exit_code(self, host: Host, number):
        assert host.run(("sh", "-c", f"kill -{number} $$"), deadline=10).exit is None

    def test_stdin_arrives_byte_for_byte_and_ends(self, host: Host):
        data = bytes(range(256)) * 4096
        assert host.run(("cat",), deadline=20, stdin=data).out == data
        assert host.run(("cat",), deadline=10).out == b""

    def test_stdin_that_nobody_reads_is_no_error(self, host: Host):
        assert host.run(("true",), deadline=10, stdin=b"x" * MIB).exit == 0

    def test_eight_mebibytes_on_both_outputs_do_not_block(self, host: Host):
        script = f"head -c {8 * MIB} /dev/zero; head -c {8 * MIB} /dev/zero >&2"
        ran = host.run(("sh", "-c", script), deadline=30)
        assert (ran.exit, len(ran.out), len(ran.err)) == (0, 8 * MIB, 8 * MIB)

    def test_arguments_arrive_verbatim(self, host: Host):
        ran = host.run(("printf", "%s\\0", *ODD), deadline=10)
        assert ran.out.decode().split("\0")[:-1] == [*ODD]


class ReadContract:
    def test_a_missing_file_is_none_and_a_folder_an_error(self, host: Host, tmp_path):
        assert host.read(f"{tmp_path}/nothing") is None
        with pytest.raises(HostError, match=f"read {tmp_path}: "):
            host.read(f"{tmp_path}")

    def test_a_file_comes_with_its_size_and_inode(self, host: Host, tmp_path):
        data = bytes(range(256))
        (tmp_path / "file").write_bytes(data)
        chunk = host.read(f"{tmp_path}/file")
        assert (chunk.data, chunk.size, chunk.inode) == (data, 256, (tmp_path / "file").stat().st_ino)

    @pytest.mark.parametrize(
        ("offset", "limit", "data"), [(0, 0, b""), (3, 4, b"3456"), (8, 100, b"89"), (10, 1, b""), (99, 1, b"")]
    )
    def test_a_part_is_read_from_its_offset_up_to_the_limit(self, host: Host, tmp_path, offset, limit, data):
        (tmp_path / "file").write_bytes(b"0123456789")
        chunk = host.read(f"{tmp_path}/file", offset=offset, limit=limit)
        assert (chunk.data, chunk.size) == (data, 10)

    def test_a_replaced_file_has_another_inode(self, host: Host, tmp_path):
        path = tmp_path / "file"
        path.write_bytes(b"old")
        old = host.read(f"{path}").inode
        path.rename(tmp_path / "file.1")
        path.write_bytes(b"new")
        assert host.read(f"{path}").inode != old


class WriteContract:
    def test_a_new_file_gets_its_bytes_and_mode_whatever_the_umask(self, host: Host, tmp_path):
        host.write(f"{tmp_path}/file", b"\x00\xff", mode=0o640)
        assert (tmp_path / "file").read_bytes() == b"\x00\xff"
        assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640

    def test_a_replaced_file_keeps_its_mode(self, host: Host, tmp_path):
        (tmp_path / "file").write_bytes(b"old")
        (tmp_path / "file").chmod(0o604)
        host.write(f"{tmp_path}/file", b"new", mode=0o600)
        assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o604
        assert (tmp_path / "file").read_bytes() == b"new"

    def test_a_replaced_file_keeps_its_owner(self, host: Host, tmp_path):
        if os.geteuid() != 0:
            pytest.skip("giving a file away needs root")
        (tmp_path / "file").write_bytes(b"old")
        os.chown(tmp_path / "file", 12345, 54321)
        host.write(f"{tmp_path}/file", b"new", mode=0o600)
        status = (tmp_path / "file").stat()
        assert (status.st_uid, status.st_gid) == (12345, 54321)

    def test_a_reader_never_sees_half_a_file_and_nothing_else_is_left(self, host: Host, tmp_path):
        path = tmp_path / "file"
        texts = [bytes([letter]) * 200_000 for letter in b"ab"]
        path.write_bytes(texts[0])
        seen, over = set(), threading.Event()

        def read() -> None:
            while not over.is_set():
                seen.add(path.read_bytes())

        reader = threading.Thread(target=read)
        reader.start()
        for at in range(40):
            host.write(f"{path}", texts[at % 2], mode=0o600)
        over.set()
        reader.join()
        assert seen <= {*texts}
        assert os.listdir(tmp_path) == ["file"]

    def test_a_folder_that_is_missing_is_an_error(self, host: Host, tmp_path):
        with pytest.raises(HostError, match="write "):
            host.write(f"{tmp_path}/nowhere/file", b"", mode=0o600)

    def test_a_full_disk_is_an_error_that_leaves_the_old_file_and_no_other(self, host: Host, tmp_path):
        with tiny_disk(tmp_path / "disk") as disk:
            (disk / "file").write_bytes(b"old")
            with pytest.raises(HostError, match="No space left"):
                host.write(f"{disk}/file", b"x" * MIB, mode=0o600)
            assert ((disk / "file").read_bytes(), os.listdir(disk)) == (b"old", ["file"])

    def test_a_read_only_disk_is_an_error_that_leaves_all_as_it_was(self, host: Host, tmp_path):
        with tiny_disk(tmp_path / "disk") as disk:
            (disk / "file").write_bytes(b"old")
            subprocess.run(("mount", "-o", "remount,ro", disk), check=True)
            with pytest.raises(HostError, match="Read-only file system"):
                host.write(f"{disk}/file", b"new", mode=0o600)
            assert ((disk / "file").read_bytes(), os.listdir(disk)) == (b"old", ["file"])


class AppendContract:
    def test_an_appended_file_is_private_and_grows_at_its_end(self, host: Host, tmp_path):
        host.append(f"{tmp_path}/journal", b"one\n")
        host.append(f"{tmp_path}/journal", b"two\n")
        assert (tmp_path / "journal").read_bytes() == b"one\ntwo\n"
        assert stat.S_IMODE((tmp_path / "journal").stat().st_mode) == 0o600

    def test_what_is_appended_ahead_is_there_before_the_next_command_begins(self, host: Host, tmp_path):
        journal = f"{tmp_path}/journal"
        host.append(journal, b"one 'quoted' %s\n", is_ahead=True)
        host.append(journal, b"two\n", is_ahead=True)
        ran = host.run(("sh", "-c", 'cat "$1" -; exit 7', "sh", journal), deadline=10, stdin=b"input")
        assert (ran.exit, ran.out) == (7, b"one 'quoted' %s\ntwo\ninput")
        host.append(journal, b"three\n", is_ahead=True)
        assert host.read(journal).data.endswith(b"two\nthree\n")
        host.append(journal, b"four\n", is_ahead=True)
        host.append(journal, b"")
        assert (tmp_path / "journal").read_bytes().endswith(b"three\nfour\n")

    def test_a_command_is_not_begun_where_what_goes_ahead_of_it_finds_no_room(self, host: Host, tmp_path):
        with tiny_disk(tmp_path / "disk") as disk:
            host.append(f"{disk}/journal", b"first\n")
            fill(disk)
            with pytest.raises(HostError, match=f"append to {disk}/journal: "):
                self._touch(host, f"{disk}/journal", f"{tmp_path}/done")
            assert not (tmp_path / "done").exists()
            assert host.run(("touch", f"{tmp_path}/done"), deadline=10).exit == 0  # what was refused is not tried again
            (disk / "ballast").unlink()
            assert (disk / "journal").read_bytes() == b"first\n"

    def _touch(self, host: Host, journal: str, done: str) -> None:
        host.append(journal, b"x" * 16384 + b"\n", is_ahead=True)
        host.run(("touch", done), deadline=10)

    def test_a_planted_link_is_refused(self, host: Host, tmp_path):
        (tmp_path / "victim").write_bytes(b"precious")
        (tmp_path / "journal").symlink_to(tmp_path / "victim")
        with pytest.raises(HostError, match=f"append to {tmp_path}/journal: "):
            host.append(f"{tmp_path}/journal", b"x")
        assert (tmp_path / "victim").read_bytes() == b"precious"

    def test_a_full_disk_is_an_error_that_leaves_no_part_of_the_line(self, host: Host, tmp_path):
        with tiny_disk(tmp_path / "disk") as disk:
            host.append(f"{disk}/journal", b"first\n")
            fill(disk)
            with pytest.raises(HostError, match=f"append to {disk}/journal: "):
                host.append(f"{disk}/journal", b"x" * 16384 + b"\n")
            (disk / "ballast").unlink()
            host.append(f"{disk}/journal", b"last\n")
            assert (disk / "journal").read_bytes() == b"first\nlast\n"


class ConnectContract:
    def test_tcp_over_both_protocols_and_by_name(self, host: Host):
        for family, bound, address in (
            (socket.AF_INET, "127.0.0.1", "127.0.0.1"),
            (socket.AF_INET, "127.0.0.1", "localhost"),
            (socket.AF_INET6, "::1", "[::1]"),
        ):
            with echoing(family, (bound, 0)) as server:
                self._check(host, f"{address}:{server.getsockname()[1]}")

    def test_a_unix_socket(self, host: Host, tmp_path):
        with echoing(socket.AF_UNIX, f"{tmp_path}/s"):
            self._check(host, f"unix:{tmp_path}/s")

    def _check(self, host: Host, address: str) -> None:
        with closing(host.connect(address, timeout=5)) as stream:
            stream.sendall(b"hello")
            assert stream.recv(100) == b"hello"

    def test_a_refused_connection_is_the_kernels_answer(self, host: Host, tmp_path):
        with pytest.raises(ConnectionRefusedError):
            host.connect(f"127.0.0.1:{free_port('127.0.0.1')}", timeout=5)
        with pytest.raises(FileNotFoundError):
            host.connect(f"unix:{tmp_path}/nothing", timeout=5)

    def test_a_server_that_does_not_take_the_connection_is_a_timeout(self, host: Host):
        with socket.socket() as server:
            server.bind(("127.0.0.1", 0))
            server.listen(0)
            port = server.getsockname()[1]
            waiting = [socket.socket() for _ in range(4)]
            for each in waiting:
                each.setblocking(False)  # noqa: FBT003  (the library's own signature)
                each.connect_ex(("127.0.0.1", port))
            with pytest.raises(TimeoutError):
                host.connect(f"127.0.0.1:{port}", timeout=0.3)
            for each in waiting:
                each.close()


class FollowContract:
    def test_only_what_comes_after_the_start_is_told_and_in_whole_lines(self, host: Host, tmp_path):
        log = tmp_path / "log"
        log.write_bytes(b"before\n")
        with closing(host.follow(f"{log}")) as follower:
            assert follower.read() == b""
            with log.open("ab", buffering=0) as out:
                out.write(b"one\ntw")
                assert self._soon(follower, 1) == [b"one"]
                out.write(b"o\n")
                assert self._soon(follower, 1) == [b"two"]

    def test_a_file_that_appears_later_is_read_from_its_start_and_a_rotation_loses_nothing(self, host: Host, tmp_path):
        log = tmp_path / "log"
        with closing(host.follow(f"{log}")) as follower:
            assert follower.read() == b""
            log.write_bytes(b"one\n")
            assert self._soon(follower, 1) == [b"one"]
            with log.open("ab", buffering=0) as out:
                log.rename(tmp_path / "log.1")
                log.write_bytes(b"three\n")
                out.write(b"two\n")
                assert sorted(self._soon(follower, 2)) == [b"three", b"two"]

    def _soon(self, follower, count: int) -> list[bytes]:
        found: list[bytes] = []

        def has_enough() -> bool:
            found.extend(follower.read().split(b"\n")[:-1])
            return len(found) >= count

        with contextlib.suppress(LabError):
            until(has_enough, deadline=5.0)
        return found


class HostContract(RunContract, ReadContract, WriteContract, AppendContract, ConnectContract, FollowContract):
    """All of it, word for word the same for every host."""
