"""A machine behind SSH keeps the contract of a host, as root and through sudo."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from hostcontract import HostContract
from sshd import Sshd, host_of, needs_root, needs_sshd, ordinary_user
from upswitch.basics.errors import HostError

pytestmark = needs_sshd


@pytest.fixture(scope="module")
def sshd(tmp_path_factory):
    with Sshd(tmp_path_factory.mktemp("sshd")) as sshd:
        yield sshd


@pytest.fixture(scope="module")
def root_host(sshd):
    host = host_of(sshd, user="")
    yield host
    host.close()


class TestSshHost(HostContract):
    @pytest.fixture
    def host(self, root_host):
        return root_host


@pytest.fixture(scope="module")
def sudo_host(tmp_path_factory):
    with ordinary_user() as user, Sshd(tmp_path_factory.mktemp("sshd"), user=user) as sshd:
        host = host_of(sshd)
        yield host
        host.close()


@needs_root
class TestSshHostThroughSudo(HostContract):
    @pytest.fixture
    def host(self, sudo_host):
        return sudo_host


def test_a_fifo_in_place_of_a_file_blocks_no_read(root_host, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for act in (root_host.read, lambda path: root_host.append(path, b"x\n")):
        with pytest.raises(HostError):
            act(f"{tmp_path}/fifo")


def test_an_error_has_the_kernels_text(root_host, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for act, words in (
        (lambda: root_host.read(f"{tmp_path}/file/below"), "Not a directory"),
        (lambda: root_host.write(f"{tmp_path}/none/file", b"", mode=0o600), "No such file or directory"),
        (lambda: root_host.append(f"{tmp_path}/none/file", b"x"), "No such file or directory"),
    ):
        with pytest.raises(HostError, match=words):
            act()


def test_a_long_command_does_not_delay_a_short_one(root_host):
    with ThreadPoolExecutor() as pool:
        long = pool.submit(root_host.run, ("sleep", "3"), deadline=9)
        assert root_host.run(("echo", "short"), deadline=9).out == b"short\n"
        assert not long.done()
        assert long.result().exit == 0


def test_output_that_looks_like_an_end_is_no_end(root_host):
    text = "".join(f"{'0' * 32} 000\\n" for _ in range(100))
    assert root_host.run(("printf", text), deadline=5).out.count(b"000\n") == 100


@pytest.mark.parametrize(
    "text", ["'; touch {0}/pwned; '", "$(touch {0}/pwned)", "`touch {0}/pwned`", "\n touch {0}/pwned\n", "${{IFS}}x"]
)
def test_no_argument_and_no_path_becomes_a_command(root_host, tmp_path, text):
    text = text.format(tmp_path)
    assert root_host.run(("printf", "%s", text), deadline=5).out == text.encode()
    root_host.read(text)
    with pytest.raises(HostError):
        root_host.write(f"{tmp_path}/none/{text}", b"", mode=0o600)
    assert not (tmp_path / "pwned").exists()


def test_every_byte_but_nul_is_appended_as_it_is(root_host, tmp_path):
    data = bytes(range(1, 256)) * 20 + b"no line break at its end"
    root_host.append(f"{tmp_path}/journal", data, is_ahead=True)
    assert root_host.run(("true",), deadline=5).exit == 0
    root_host.append(f"{tmp_path}/journal", data)
    assert (tmp_path / "journal").read_bytes() == data * 2
