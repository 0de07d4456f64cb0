"""A machine behind SSH keeps the contract of a host, as root and through sudo."""

import pytest

from hostcontract import HostContract
from sshd import Sshd, needs_root, needs_sshd, ordinary_user
from upswitch.adapters.ssh.config import load
from upswitch.adapters.ssh.host import SshHost
from upswitch.adapters.ssh.keyring import Keyring
from upswitch.adapters.ssh.login import login

pytestmark = needs_sshd


def nobody(prompt):
    raise AssertionError(f"asked for: {prompt}")


def host_of(sshd, *, user="root", ask=nobody):
    return SshHost("lb1", login(sshd.host, load(f"{sshd.write_config()}")), keyring=Keyring(ask), user=user)


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
