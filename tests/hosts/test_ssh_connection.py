"""Opening a connection: who is let in, who is not, and what becomes of one that is lost."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from sshd import ME, OTHER, Key, Sshd, host_of, needs_root, needs_sshd, nobody, ordinary_user, program, with_libraries
from upswitch.basics.errors import HostError
from upswitch.hosts import sh
from upswitch.hosts.local.host import FileLock
from upswitch.hosts.sh import Exit
from upswitch.hosts.ssh.host import SshHost
from upswitch.hosts.ssh.keys import Keyring
from upswitch.hosts.ssh.login import load, login
from upswitch.hosts.ssh.streams import NotBegunError, Pipe
from upswitch_lab.process import Process, until

pytestmark = needs_sshd


@pytest.fixture
def sshd(tmp_path):
    with Sshd(tmp_path / "sshd") as sshd:
        yield sshd


def host_by(config, name, ask=nobody):
    return SshHost("lb1", login(name, load(f"{config}")), keyring=Keyring(ask))


def refusal(host):
    with pytest.raises(HostError) as refused:
        host.run(("true",), deadline=5)
    host.close()
    return str(refused.value)


def write(path, *texts):
    path.write_text("".join(texts))
    return path


# ---- how a host is named ----


@pytest.mark.parametrize(
    "text", ["-oProxyCommand=x", "a b", "a;b", "$(id)", "a@-b", "", "a@", "h:99999", "h:x", "u@v@h", "h\n", "`id`"]
)
def test_a_host_that_could_be_an_option_or_a_command_is_refused(text, tmp_path):
    with pytest.raises(HostError, match="use the host"):
        login(text, load(f"{write(tmp_path / 'config')}"))


@pytest.mark.parametrize(
    ("text", "user", "host", "port"),
    [
        ("deploy@10.0.0.1", "deploy", "10.0.0.1", 22),
        ("deploy@10.0.0.2:2222", "deploy", "10.0.0.2", 2222),
        ("[::1]:2200", "me", "::1", 2200),
        ("u@[fe80::1%eth0]", "u", "fe80::1%eth0", 22),
        ("lb1", "ann", "10.1.1.1", 2022),
        ("bob@lb1:22", "bob", "10.1.1.1", 22),
    ],
)
def test_a_name_is_completed_from_ssh_config(text, user, host, port, tmp_path):
    config = write(tmp_path / "config", "Host lb1\n HostName 10.1.1.1\n Port 2022\n User ann\nHost *\n User me\n")
    found = login(text, load(f"{config}"))
    assert (found.user, found.host, found.port) == (user, host, port)


def test_a_proxy_command_is_refused_by_name(tmp_path):
    config = write(tmp_path / "config", "Host lb1\n ProxyCommand nc %h %p\n")
    with pytest.raises(HostError, match="ProxyCommand in ssh_config is not supported"):
        login("lb1", load(f"{config}"))


def test_an_include_is_read_where_it_stands_and_the_block_around_it_goes_on(sshd, tmp_path):
    write(tmp_path / "one.conf", sshd.stanza("lb1"))
    write(tmp_path / "two.conf", "User included\n")
    text = f"Include {tmp_path}/o*.conf {tmp_path}/none*.conf\nHost other\n Include {tmp_path}/two.conf\n Port 77\n"
    config = write(tmp_path / "config", text)
    host = host_by(config, "lb1")
    assert host.run(("echo", "in"), deadline=5).out == b"in\n"
    host.close()
    found = login("other", load(f"{config}"))
    assert (found.user, found.port) == ("included", 77)
    write(tmp_path / "two.conf", "Host deep\n User included\n")
    with pytest.raises(HostError, match="has a Host or Match of its own"):
        load(f"{config}")
    write(tmp_path / "config", f"Include {tmp_path}/config\n")
    with pytest.raises(HostError, match="more than 16 Includes"):
        load(f"{config}")


CONNECT = """
import sys
from upswitch.hosts.ssh.host import SshHost
from upswitch.hosts.ssh.keys import Keyring
from upswitch.hosts.ssh.login import load, login
host = SshHost("lb1", login(sys.argv[1], load(sys.argv[2])), keyring=Keyring(lambda prompt: None))
print(host.run(("echo", "in"), deadline=5).out)
host.close()
"""


def test_the_users_settings_of_fabric_and_invoke_change_nothing(sshd, tmp_path):
    settings = "gateway: nobody@127.0.0.1:1\nuser: nobody\nport: 1\nrun: {echo: true}\nconnect_kwargs: {key_filename: /none}\n"
    for name in (".fabric.yml", ".fabric.yaml", ".invoke.yml", ".invoke.yaml"):
        write(tmp_path / name, settings)
    argv = (sys.executable, "-c", CONNECT, sshd.host, f"{sshd.write_config()}")
    environment = os.environ | {"HOME": f"{tmp_path}", "FABRIC_PORT": "1", "INVOKE_RUN_ECHO": "1"}
    ran = subprocess.run(argv, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=30)
    assert (ran.stdout, ran.stderr) == ("b'in\\n'\n", "")


# ---- host keys ----


def fingerprint(key):
    said = subprocess.run(
        with_libraries(program("ssh-keygen"), "-lf", f"{key.path}.pub"), capture_output=True, text=True, check=True
    )
    return said.stdout.split()[1]


def test_a_key_that_is_not_recorded_is_refused_before_anything_is_sent(sshd):
    write(sshd.known_hosts)
    said = refusal(host_of(sshd))
    assert "its host key is not known: ssh-ed25519 " + fingerprint(sshd.host_key) in said
    assert f"{sshd.known_hosts}" in said
    assert "publickey" not in sshd.log


def test_another_key_than_the_recorded_is_refused_before_anything_is_sent(sshd):
    old = fingerprint(sshd.host_key)
    sshd.change_host_key()
    said = refusal(host_of(sshd))
    assert f"its host key is not the recorded one: ssh-ed25519 {fingerprint(sshd.host_key)} was offered" in said
    assert f"recorded is ssh-ed25519 {old} in {sshd.known_hosts}:1" in said
    assert f"ssh-keygen -R '[127.0.0.1]:{sshd.port}' -f {sshd.known_hosts}" in said
    assert "publickey" not in sshd.log


def test_a_revoked_key_is_refused_though_it_is_recorded(sshd):
    write(sshd.known_hosts, sshd.host_key_line, f"@revoked * {sshd.host_key.public}\n")
    assert f"is revoked in {sshd.known_hosts}:2" in refusal(host_of(sshd))
    assert "publickey" not in sshd.log


def test_lines_of_known_hosts_that_can_not_be_read_do_not_hide_a_good_one(sshd):
    bad = "@cert-authority * ssh-ed25519 AAAA\nrubbish\n\xff\xfe\nhost ssh-rsa !!!\n# comment\n\n* ssh-rsa AAAAB3NzaC1yc2EAAAA=\n"
    write(sshd.known_hosts, bad, sshd.host_key_line)
    host = host_of(sshd)
    assert host.run(("true",), deadline=5).exit == 0
    host.close()


def test_a_hashed_name_and_a_pattern_are_understood(sshd):
    argv = with_libraries(program("ssh-keygen"), "-q", "-H", "-f", f"{sshd.known_hosts}")
    subprocess.run(argv, check=True, capture_output=True)
    assert sshd.known_hosts.read_text().startswith("|1|")
    for text in (sshd.known_hosts.read_text(), f"[127.0.0.?]:* {sshd.host_key.public}\n"):
        write(sshd.known_hosts, text)
        host = host_of(sshd)
        assert host.run(("true",), deadline=5).exit == 0
        host.close()
    write(sshd.known_hosts, f"[127.0.0.*]:*,!{sshd.host_key_line}")
    assert "is not known" in refusal(host_of(sshd))


def test_the_recorded_type_is_asked_for_first(tmp_path):
    folder = tmp_path / "sshd"
    folder.mkdir()
    rsa = folder / "rsa"
    subprocess.run(with_libraries(program("ssh-keygen"), "-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", f"{rsa}"), check=True)
    with Sshd(folder, f"HostKey {rsa}") as sshd:
        public = " ".join(Path(f"{rsa}.pub").read_text().split()[:2])
        write(sshd.known_hosts, f"[127.0.0.1]:{sshd.port} {public}\n")
        host = host_of(sshd)
        assert host.run(("true",), deadline=5).exit == 0
        host.close()


# ---- jump hosts ----


@pytest.fixture
def jump(tmp_path, sshd):
    """The jump host, and a configuration that leads over it."""
    with Sshd(tmp_path / "jump", key=sshd.key) as jump:
        text = sshd.stanza("lb1", "ProxyJump one,two") + jump.stanza("one two")
        yield jump, write(tmp_path / "config", text)


def test_a_host_behind_two_jumps_is_reached(jump):
    hop, config = jump
    host = host_by(config, "lb1")
    assert host.run(("echo", "there"), deadline=5).out == b"there\n"
    assert hop.log.count("Accepted publickey") == 2
    host.close()


def test_a_jump_host_with_a_wrong_key_is_refused_and_nothing_reaches_the_host(sshd, jump):
    hop, config = jump
    hop.change_host_key()
    assert "connect to one (127.0.0.1:" in refusal(host_by(config, "lb1"))
    assert "publickey" not in hop.log
    assert "Connection from" not in sshd.log


def test_a_host_with_a_wrong_key_behind_a_jump_is_refused(sshd, jump):
    _, config = jump
    sshd.change_host_key()
    assert "connect to lb1 (127.0.0.1:" in refusal(host_by(config, "lb1"))
    assert "publickey" not in sshd.log


# ---- keys and passwords ----


@contextmanager
def agent(*keys):
    """An ssh-agent of its own with these keys; it is the environment's while it runs."""
    folder = keys[0].path.parent
    with (folder / "agent.log").open("wb") as out:
        process = Process(with_libraries(program("ssh-agent"), "-D", "-a", f"{folder}/agent"), out=out)
    former = os.environ.get("SSH_AUTH_SOCK")
    os.environ["SSH_AUTH_SOCK"] = f"{folder}/agent"
    try:
        until((folder / "agent").exists, what="ssh-agent")
        paths = [f"{key.path}" for key in keys]
        subprocess.run(with_libraries(program("ssh-add"), "-q", *paths), check=True, capture_output=True)
        yield
    finally:
        del os.environ["SSH_AUTH_SOCK"]
        if former is not None:
            os.environ["SSH_AUTH_SOCK"] = former
        process.end()


def test_an_agents_key_opens_and_no_other_of_the_agent_is_shown_where_identities_are_named(sshd, tmp_path):
    others = [Key(tmp_path / f"other{at}") for at in range(8)]
    with agent(sshd.key, *others):
        sshd.key.path.unlink()
        host = host_of(sshd)
        assert host.run(("true",), deadline=5).exit == 0
        host.close()
    assert sshd.log.count("Accepted publickey") == 1


def test_no_key_at_all_and_no_accepted_key_are_different_errors(sshd, tmp_path):
    stranger = Key(tmp_path / "stranger")
    config = write(tmp_path / "config", sshd.stanza("lb1", f"IdentityFile {stranger.path}").replace(f"{sshd.key.path}", "/none"))
    assert "none of 1 keys was accepted" in refusal(host_by(config, "lb1"))
    stranger.path.unlink()
    assert "there is no key to log in as" in refusal(host_by(config, "lb1"))


def test_a_passphrase_is_asked_for_once_for_all_hosts(tmp_path):
    key = Key(tmp_path / "key", passphrase="marker-secret")
    asked = []

    def ask(prompt):
        asked.append(prompt)
        return "marker-secret"

    keyring = Keyring(ask)
    with Sshd(tmp_path / "a", key=key) as first, Sshd(tmp_path / "b", key=key) as second:
        hosts = [SshHost("lb", login(each.host, load(f"{each.write_config()}")), keyring=keyring) for each in (first, second)]
        threads = [threading.Thread(target=host.run, args=(("true",),), kwargs={"deadline": 5}) for host in hosts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [host.run(("true",), deadline=5).exit for host in hosts] == [0, 0]
        for host in hosts:
            host.close()
    assert asked == [f"passphrase of {key.path}: "]


def test_a_missing_or_wrong_passphrase_is_an_error_that_names_the_key_and_not_the_secret(tmp_path):
    key = Key(tmp_path / "key", passphrase="marker-secret")
    with Sshd(tmp_path / "a", key=key) as sshd:
        said = refusal(host_of(sshd, ask=lambda _: None))
        why = f"it has a passphrase, and nobody can be asked here: load it into an agent with ssh-add {key.path}"
        assert said == f"can't use the key {key.path}: {why}"
        said = refusal(host_of(sshd, ask=lambda _: "wrong-marker"))
        assert said == f"can't use the key {key.path}: the passphrase does not open it"


@needs_root
def test_a_sudo_password_is_asked_for_once_and_is_seen_nowhere(tmp_path):
    asked = []

    def ask(prompt):
        asked.append(prompt)
        return "marker-secret"

    with ordinary_user("ALL=(ALL:ALL) ALL", password="marker-secret") as user, Sshd(tmp_path / "sshd", user=user) as sshd:
        host = host_of(sshd, ask=ask)
        assert host.run(("id", "-un"), deadline=5).out == b"root\n"
        data = os.urandom(1 << 20)
        assert host.run(("cat",), deadline=20, stdin=data).out == data
        threads = [threading.Thread(target=host.run, args=(("sleep", "0.2"),), kwargs={"deadline": 9}) for _ in range(3)]
        for thread in threads:
            thread.start()
        seen = b"".join(path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists())
        for thread in threads:
            thread.join()
        assert b"marker-secret" not in seen
        assert asked == [f"sudo password of {user}: "]
        host.close()
        wrong = refusal(host_of(sshd, ask=lambda _: "wrong-marker"))
        assert f"use sudo -u root on {sshd.host} as {user}: " in wrong
        assert "marker" not in wrong
        assert "it needs a password, and nobody can be asked here" in refusal(host_of(sshd, ask=lambda _: None))


@needs_root
def test_a_sudo_that_refuses_is_named_with_the_right_that_is_missing(tmp_path):
    with ordinary_user("ALL=(root) NOPASSWD: /bin/true") as user, Sshd(tmp_path / "sshd", user=user) as sshd:
        said = refusal(host_of(sshd, ask=lambda _: None))
        assert user in said
    with ordinary_user("") as user, Sshd(tmp_path / "other", user=user) as sshd:
        assert user in refusal(host_of(sshd, ask=lambda _: None))


# ---- what is lost ----


def test_a_command_whose_session_is_killed_has_no_exit_and_the_next_one_connects_anew_and_says_so(sshd):
    told = []
    host = host_of(sshd, tell=lambda step, said, **_: told.append(f"{step}: {said}"))
    assert host.run(("true",), deadline=5).exit == 0
    found = []
    thread = threading.Thread(target=lambda: found.append(host.run(("sleep", "30"), deadline=40)))
    thread.start()
    until(lambda: any(b"sleep\x0030" in _cmdline(pid) for pid in _pids()), what="the command")
    sshd.kill_sessions()
    thread.join(10)
    assert found[0].exit is None
    until(lambda: host.lost, what="the end")
    assert sshd.log.count("Accepted publickey") == 1
    assert host.run(("true",), deadline=5).exit == 0
    assert host.read("/etc/hostname") is not None
    assert sshd.log.count("Accepted publickey") == 2
    assert [line.split(":")[0] for line in told] == ["ssh", "ssh"]
    assert "connection lost" in told[0]
    assert told[1] == "ssh: connected again"
    host.close()


def test_a_host_that_is_gone_is_tried_again_less_and_less_often(sshd):
    host = host_of(sshd)
    assert host.run(("true",), deadline=5).exit == 0
    sshd.end()
    until(lambda: host.lost, what="the end")
    for _ in range(20):
        with pytest.raises(HostError, match=r"Connection refused|connection lost"):
            host.run(("true",), deadline=5)
    assert host._failed < 5
    sshd.start()


def _pids():
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def _cmdline(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_a_silent_host_is_noticed_within_eight_seconds(sshd):
    host = host_of(sshd)
    assert host.run(("true",), deadline=5).exit == 0
    sshd.stop()
    began = time.monotonic()
    assert host.run(("true",), deadline=60).exit is None
    assert 4 < time.monotonic() - began < 9
    assert "was silent for 6 s" in host.lost
    with pytest.raises(HostError, match="connect to"):
        host.run(("true",), deadline=5)
    host.close()


def test_a_host_that_falls_silent_during_a_large_input_is_noticed_too(sshd):
    host = host_of(sshd)
    assert host.run(("true",), deadline=5).exit == 0
    found = []
    thread = threading.Thread(target=lambda: found.append(host.run(("cat",), deadline=60, stdin=bytes(1 << 26))))
    thread.start()
    sent = host._streams._wire.meter.sent
    until(lambda: host._streams._wire.meter.sent > sent + (1 << 20), what="the input")
    sshd.stop()
    thread.join(12)
    assert found[0].exit is None
    host.close()


def test_beats_alone_do_not_make_a_host_look_silent(sshd, tmp_path):
    host = host_of(sshd)
    lock = host.lock_in(f"{tmp_path}")
    assert lock.acquire(ME) is None
    began = time.monotonic()

    def is_over():
        lock.beat()
        return host.lost != "" or time.monotonic() > began + 9

    until(is_over, what="nine seconds", deadline=20)
    assert host.run(("echo", "on"), deadline=5, holds_lock=True).out == b"on\n"
    lock.release()
    host.close()


def test_a_closed_port_and_a_port_without_sshd_are_reported_at_once(sshd, tmp_path):
    sshd.end()
    assert refusal(host_of(sshd)).endswith(": Connection refused")
    config = write(tmp_path / "config", "Host lb1\n HostName no-such-host.invalid\n")
    assert "connect to lb1 (no-such-host.invalid:22): " in refusal(host_by(config, "lb1"))


def test_eight_threads_share_one_connection_and_at_most_four_shells(sshd):
    host = host_of(sshd)
    found = []
    threads = [threading.Thread(target=lambda: found.append(host.run(("true",), deadline=20).exit)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [0] * 8
    assert sshd.log.count("Accepted publickey") == 1
    assert sshd.log.count("Starting session") <= 4
    host.close()


# ---- the lock ----


def test_the_lock_is_the_same_as_the_local_one(sshd, tmp_path):
    host, local = host_of(sshd), FileLock(f"{tmp_path}/lock")
    lock = host.lock_in(f"{tmp_path}")
    assert lock.acquire(OTHER) is None
    assert local.acquire(ME) == OTHER
    assert (local.holder(), lock.holder()) == (OTHER, OTHER)
    lock.release()
    assert lock.holder() is None
    assert local.acquire(ME) is None
    assert local.epoch == lock.epoch + 1
    assert (lock.acquire(OTHER), lock.holder()) == (ME, ME)
    local.release()
    assert lock.acquire(OTHER) is None
    lock.release()
    host.close()


def test_a_lock_that_can_not_be_created_or_read_is_an_error_and_not_a_held_lock(sshd, tmp_path):
    host = host_of(sshd)
    with pytest.raises(HostError, match="No such file or directory"):
        host.lock_in(f"{tmp_path}/nowhere").acquire(ME)
    sshd.kill_sessions()
    until(lambda: host.lost, what="the end")
    with pytest.raises(HostError, match="connection lost"):
        host.lock_in(f"{tmp_path}").acquire(ME)
    host.close()


def test_a_lock_is_free_at_once_when_its_session_is_killed_and_is_ours_again_if_nobody_else_took_it(sshd, tmp_path):
    host = host_of(sshd)
    lock = host.lock_in(f"{tmp_path}")
    assert lock.acquire(ME) is None
    sshd.kill_sessions()
    until(lambda: FileLock(f"{tmp_path}/lock").holder() is None, what="the lock", deadline=3)
    until(lambda: host.lost, what="the end")
    assert host.run(("true",), deadline=5, holds_lock=True).exit == 0
    assert FileLock(f"{tmp_path}/lock").holder() == ME
    assert host.run(("echo", "on"), deadline=5, holds_lock=True).out == b"on\n"
    sshd.kill_sessions()
    other = FileLock(f"{tmp_path}/lock")
    until(lambda: other.acquire(OTHER) is None, what="the lock")
    until(lambda: host.lost, what="the end")
    ran = host.run(("touch", f"{tmp_path}/never"), deadline=5, holds_lock=True)
    assert ran.exit == Exit.FENCED
    with pytest.raises(HostError, match="another upswitch or the dead-man has changed this host"):
        host.append(f"{tmp_path}/journal", b"never\n")
    assert not (tmp_path / "never").exists()
    other.release()
    host.close()


def test_a_command_under_the_lock_keeps_the_lock_until_the_command_has_ended(sshd, tmp_path):
    host = host_of(sshd)
    lock = host.lock_in(f"{tmp_path}")
    assert lock.acquire(ME) is None
    host.run(("sh", "-c", "sleep 30 >/dev/null 2>&1 </dev/null & echo $!"), deadline=5)
    thread = threading.Thread(target=lambda: host.run(("sleep", "5"), deadline=9, holds_lock=True))
    thread.start()
    until(lambda: any(b"sleep\x005\x00" in _cmdline(pid) for pid in _pids()), what="the command")
    sshd.kill_sessions()
    thread.join(10)
    other = FileLock(f"{tmp_path}/lock")
    assert other.acquire(OTHER) == ME
    until(lambda: other.acquire(OTHER) is None, what="the end of the command", deadline=12)
    other.release()
    host.close()


HOLD = """
import sys
sys.path[:0] = sys.argv[1:3]
from sshd import ME, nobody
from upswitch.hosts.clock import SystemClock
from upswitch.hosts.ssh.login import load
from upswitch.hosts.ssh.host import SshHost
from upswitch.hosts.ssh.keys import Keyring
from upswitch.hosts.ssh.login import login
from upswitch.hosts.wait import Pulse
name, config, folder = sys.argv[3:]
host = SshHost("lb1", login(name, load(config)), keyring=Keyring(nobody))
lock = host.lock_in(folder)
print(lock.acquire(ME), flush=True)
Pulse(lock.beat, every=1.0, clock=SystemClock())
for line in sys.stdin:
    ran = host.run(("touch", folder + "/changed"), deadline=5, holds_lock=True)
    print(ran.exit, flush=True)
"""


@contextmanager
def holding(sshd, folder):
    """Another orchestrator that has the lock, and touches a file under it when it is told to."""
    root = Path(__file__).parents[2]
    argv = (sys.executable, "-c", HOLD, f"{root}/tests/lab", f"{root}/src", sshd.host, f"{sshd.write_config()}", f"{folder}")
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "None\n"
            yield process
        finally:
            process.kill()


def test_the_lock_is_free_at_once_when_upswitch_is_killed(sshd, tmp_path):
    with holding(sshd, tmp_path) as process:
        process.kill()
        until(lambda: FileLock(f"{tmp_path}/lock").holder() is None, what="the lock", deadline=3)


def test_the_lock_is_free_within_twenty_seconds_when_upswitch_is_frozen_which_is_fenced_when_it_wakes(sshd, tmp_path):
    with holding(sshd, tmp_path) as process:
        lease = tmp_path / "lease"
        first = lease.read_text()
        until(lambda: lease.read_text() != first, what="a beat", deadline=5)
        process.send_signal(signal.SIGSTOP)
        other = FileLock(f"{tmp_path}/lock")
        assert other.acquire(OTHER).user == "me"
        until(lambda: other.acquire(OTHER) is None, what="the lock", deadline=20)
        other.release()
        process.send_signal(signal.SIGCONT)
        process.stdin.write("go\n")
        process.stdin.flush()
        assert process.stdout.readline() == f"{Exit.FENCED}\n"
        assert not (tmp_path / "changed").exists()


def test_a_commands_deadline_does_not_stretch_the_lease_once_it_has_ended(sshd, tmp_path):
    host = host_of(sshd)
    lock = host.lock_in(f"{tmp_path}")
    assert lock.acquire(ME) is None
    assert host.run(("true",), deadline=60, holds_lock=True).exit == 0
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    assert int((tmp_path / "lease").read_text()) <= uptime + 11
    lock.release()
    host.close()


# ---- what a host is like ----


class Recorded:
    """A channel that takes a command and ends."""

    command = ""
    eof_received = closed = True

    def recv_stderr_ready(self) -> bool:
        return False

    def exec_command(self, command: str) -> None:
        self.command = command

    def settimeout(self, timeout: float) -> None: ...

    def recv(self, _limit: int) -> bytes:
        return b""

    recv_stderr = recv


def test_every_login_shell_takes_the_first_command_and_no_argument_is_changed():
    channel = Recorded()
    odd = ("a\nb", "\\\\", "\\'", "!!", "it's", "ü\udcff", "", "$HOME", "%s\\0", "tab\t", "end\n")
    with pytest.raises(NotBegunError):
        Pipe(channel, "begin").begin(("printf", "%s\\0", *odd), sudo="")
    assert channel.command.isprintable()
    assert channel.command.isascii()
    assert not {*channel.command} & {*"\n!"}
    assert "\\\\" not in channel.command  # fish's; csh has no line breaks between quotes, and reads "!" there
    assert "\\'" not in channel.command
    out = subprocess.run(("sh", "-c", channel.command), capture_output=True, check=True).stdout
    assert out[32:].split(b"\0")[:-1] == [each.encode("utf-8", "surrogateescape") for each in odd]


@pytest.fixture
def tools(tmp_path):
    """A folder that comes first on the PATH of `poor`."""
    folder = tmp_path / "tools"
    folder.mkdir()
    return folder


@pytest.fixture
def poor(tmp_path, tools):
    with Sshd(tmp_path / "poor", f"SetEnv HOME={tmp_path} PATH={tools}:/usr/bin:/bin") as sshd:
        yield host_of(sshd)


def put(folder, name, text):
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


BUSYBOX_DD = """case $* in *nofollow*) echo "dd: invalid argument 'nofollow' to 'oflag'" >&2; exit 1 ;; esac
PATH=/usr/bin:/bin exec dd "$@\""""


def test_what_a_host_lacks_is_named_with_the_packages(poor, tools):
    ran = poor.run(sh.look(), deadline=5)
    assert (ran.exit, ran.out) == (0, Path("/proc/sys/kernel/random/boot_id").read_bytes())
    put(tools, "flock", "echo 'flock: unrecognized option: version' >&2; exit 1")
    ran = poor.run(sh.look(), deadline=5)
    assert (ran.exit, sh.problem(ran.out).partition(":")[0]) == (sh.Exit.LACKS, "it lacks util-linux")
    put(tools, "dd", BUSYBOX_DD)
    ran = poor.run(sh.look(), deadline=5)
    assert ran.exit == sh.Exit.LACKS
    assert sh.problem(ran.out).startswith("it lacks coreutils and util-linux: install that there")
    poor.close()


def test_a_flock_that_does_not_run_is_not_taken_for_a_held_lock(poor, tools, tmp_path):
    put(tools, "flock", "echo 'flock: not found' >&2; exit 127")
    with pytest.raises(HostError, match=r"open the lock .*: not found"):
        poor.lock_in(f"{tmp_path}").acquire(ME)
    poor.close()
