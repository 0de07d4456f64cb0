"""A file that others may change decides nothing: each way to change it is refused, with a command that ends it."""

import os
import subprocess

import pytest

from forked import run_upswitch
from upswitch.basics.errors import UntrustedError
from upswitch.cli import site_files
from upswitch.generations import templates
from upswitch.hosts.local import trusted
from upswitch.hosts.ssh import keys, login
from upswitch.site.model import Gate, Nginx, Site, Upstream, Watch

STRANGER = 65534
IS_ROOT = os.geteuid() == 0

WRONG = {
    "all may write the file": (lambda top: os.chmod(top / "folder/file", 0o666), "every user may write it"),
    "a group may write the file": (
        lambda top: (os.chown(top / "folder/file", 0, 12), os.chmod(top / "folder/file", 0o664)),
        "group",
    ),
    "the file is a stranger's": (lambda top: os.chown(top / "folder/file", STRANGER, 0), "it belongs to"),
    "all may write the folder": (lambda top: os.chmod(top / "folder", 0o777), "every user may write it"),
    "a group may write the folder": (lambda top: (os.chown(top / "folder", 0, 12), os.chmod(top / "folder", 0o775)), "group"),
    "the folder is a stranger's": (lambda top: os.chown(top / "folder", STRANGER, 0), "it belongs to"),
    "all may write the folder above it": (lambda top: os.chmod(top, 0o777), "every user may write it"),
    "a stranger's file in a sticky folder": (
        lambda top: (os.chmod(top / "folder", 0o1777), os.chown(top / "folder/file", STRANGER, 0)),
        "it belongs to",
    ),
}
RIGHT = {
    "as a file is made": lambda _: None,
    "root's group may write": lambda top: os.chmod(top / "folder/file", 0o664),
    "a folder that all may write is sticky": lambda top: os.chmod(top / "folder", 0o1777),
    "others may read it": lambda top: os.chmod(top / "folder/file", 0o644),
}


@pytest.fixture
def top(tmp_path):
    if not IS_ROOT:
        pytest.skip("to give a file to another user needs root")
    (tmp_path / "top/folder").mkdir(parents=True)
    (tmp_path / "top/folder/file").write_text("")
    return tmp_path / "top"


@pytest.mark.parametrize("is_linked", [False, True], ids=["", "behind a link"])
@pytest.mark.parametrize(("wrong", "said"), WRONG.values(), ids=WRONG)
def test_what_others_may_change_is_refused_until_the_printed_command_was_run(top, tmp_path, wrong, said, is_linked):
    wrong(top)
    path = top / "folder/file"
    if is_linked:
        os.symlink(path, tmp_path / "first")
        os.symlink("first", tmp_path / "second")
        path = tmp_path / "second"
    with pytest.raises(UntrustedError, match=said) as caught:
        trusted.check(str(path))
    subprocess.run(caught.value.fix, shell=True, check=True)
    trusted.check(str(path))


@pytest.mark.parametrize("right", RIGHT.values(), ids=RIGHT)
def test_what_is_usual_is_not_refused(top, right):
    right(top)
    trusted.check(str(top / "folder/file"))


def test_a_private_key_that_others_may_read_is_refused_as_ssh_does(top):
    os.chmod(top / "folder/file", 0o640)
    with pytest.raises(UntrustedError, match="other users may read this secret") as caught:
        trusted.check(str(top / "folder/file"), is_secret=True)
    subprocess.run(caught.value.fix, shell=True, check=True)
    trusted.check(str(top / "folder/file"), is_secret=True)


def test_every_file_of_this_machine_that_decides_something_is_checked(top):
    path = str(top / "folder/file")
    upstream = Upstream(name="api", template=path, pools={})
    site = Site(nginx=Nginx(user=""), upstreams=(upstream,), gate=Gate(), watch=Watch())
    config = login.load(path)
    found = login.login("host", config)
    for reader in (
        lambda: site_files.read_site(path),
        lambda: templates.load(site),
        lambda: login.load(path),
        lambda: keys.check_files(type(found)(**{**_fields(found), "known_hosts": (path,), "identities": ()})),
        lambda: keys.check_files(type(found)(**{**_fields(found), "known_hosts": (), "identities": (path,)})),
    ):
        os.chmod(top / "folder", 0o777)
        with pytest.raises(UntrustedError, match=f"can't trust {top}/folder: every user may write it"):
            reader()
        os.chmod(top / "folder", 0o755)


def _fields(value):
    return {name: getattr(value, name) for name in value.__struct_fields__}


def test_a_site_file_in_a_folder_of_others_is_exit_2_with_the_command_that_fixes_it(top):
    os.chmod(top / "folder", 0o777)
    ran = run_upswitch(("switch", "--to", "B", "-c", str(top / "folder/file")))
    assert ran.returncode == 2, ran
    said = ran.stdout.decode()
    assert f"can't trust {top}/folder: every user may write it" in said
    assert f"\n          chmod o-w {top}/folder\n" in said
