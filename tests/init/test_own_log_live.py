"""The log of our own at work: two applications on one nginx, one combined log (Debian's default) for both."""

import os
import re
import subprocess
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from crowd import crowd
from twosites import two_sites
from upswitch.init.own_log import cut_command
from upswitch.nginx.conf_logs import LARGEST_OWN
from upswitch_lab.process import ask, until


@contextmanager
def with_own_log(nginx, folder, *, watch="15s", logs=""):
    """The shop is adopted, with a log of its own beside the owner's. Yields both, and where it is."""
    with two_sites(nginx, folder) as sites:
        if logs:
            sites.conf.write_text(sites.conf.read_text().replace("access_log access.log", f"access_log {logs}/access.log"))
            sites.reload()
        done = sites.init(sites.shop, "--log")
        assert done.exit == 0, done
        sites.set(sites.shop, '# interval = "1s"', 'interval = "100ms"')
        sites.set(sites.shop, '# duration = "60s"', f'duration = "{watch}"')
        (path,) = (folder / logs).glob("upswitch_shop*_requests")
        yield sites, path


def test_in_a_combined_log_of_two_sites_a_bad_release_is_told_by_its_server_and_rolled_back(any_nginx, tmp_path):
    """The blog fails all the time, and our log is cut while the watch reads it."""
    with with_own_log(any_nginx, tmp_path) as (sites, path):
        shop, blog = sites.apps
        assert path.stat().st_mode & 0o777 == 0o640
        assert "log_limited" not in sites.on(shop, "lint").out
        shop.servers["B"].mode("error", lying=True)
        blog.servers["A"].mode("error", lying=True)
        with crowd(blog.public, rate=3):
            with crowd(shop.public, rate=3):
                until(lambda: path.stat().st_size > 500, what="history")
                command = sites.begin("switch", "--to", "B", "-s", shop.name)
                until(lambda: shop.serves == "B", what="the swap")
                os.truncate(path, 0)
                answer = sites.end(command)
            assert (answer.exit, answer.json["watch"]["verdict"]) == (4, "rollback"), answer
            assert "LIMITED MODE" not in answer.out
            assert shop.servers["B"].address in answer.out
        assert " 502 " in (tmp_path / "access.log").read_text()
        left = sites.on(shop, "leave", "--apply")
        assert (left.exit, path.exists(), shop.serves) == (0, False, "A"), left
        assert path.name not in sites.conf.read_text()


def fill(path):
    with suppress(OSError), path.open("ab", buffering=0) as file:
        while file.write(b"x" * 4096):
            pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a full disk")
def test_where_the_disk_of_the_log_is_full_nginx_serves_on_and_the_watch_says_that_it_saw_nothing(any_nginx, tmp_path):
    (tmp_path / "logs").mkdir()
    if subprocess.run(("mount", "-t", "tmpfs", "-o", "size=256k", "none", tmp_path / "logs"), check=False).returncode != 0:
        pytest.skip("no mount is allowed here")
    try:
        with with_own_log(any_nginx, tmp_path, logs="logs", watch="3s") as (sites, path):
            for _ in range(2):  # again without the slack of the log's own last page
                fill(tmp_path / "logs/full")
                os.truncate(path, 0)
            fill(tmp_path / "logs/full")
            with crowd(sites.shop.public, rate=3):
                answer = sites.on(sites.shop, "switch", "--to", "B")
            assert ask(sites.shop.public, "/") == (200, "B1\n")
            assert answer.json["said"].startswith("SWITCHED, NOT PROVEN BY TRAFFIC"), answer
    finally:
        subprocess.run(("umount", "--lazy", tmp_path / "logs"), check=True)


def test_the_command_that_keeps_a_log_small_cuts_only_one_that_is_too_large_and_follows_no_link(tmp_path):
    log, other, link = tmp_path / "requests", tmp_path / "other", tmp_path / "link"
    for path in (log, other):
        with path.open("ab") as file:
            file.truncate(LARGEST_OWN + 2048)
    link.symlink_to(other)
    small = tmp_path / "small"
    small.write_text("a line\n")
    for path in (log, link, small, tmp_path / "none"):
        subprocess.run(("sh", "-c", cut_command(str(path))), check=False, timeout=20)
    assert (log.stat().st_size, (tmp_path / "requests.1").stat().st_size) == (0, LARGEST_OWN + 2048)
    assert (other.stat().st_size, small.read_text()) == (LARGEST_OWN + 2048, "a line\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "other", "requests", "requests.1", "small"]


def test_a_site_that_is_managed_already_gets_the_log_by_init_with_its_name_alone(any_nginx, tmp_path):
    with two_sites(any_nginx, tmp_path) as sites:
        shop = sites.shop
        assert sites.init(shop).exit == 0
        before = sites.conf.read_text()
        shown = sites.on(shop, "init", "--log")
        assert (shown.exit, shown.json["applied"], sites.conf.read_text()) == (0, False, before), shown
        done = sites.on(shop, "init", "--log", "--apply")
        path = Path(done.json["log"])
        ask(shop.public, "/")
        until(lambda: path.stat().st_size > 0, what="a line in our log")
        assert (done.exit, shop.answers) == (0, shop.live), done
        for size in (2 * LARGEST_OWN, 5 * LARGEST_OWN):
            os.truncate(path, size)
            findings = [each for each in sites.on(shop, "status").json["findings"] if path.name in each]
            assert len(findings) == (size > 4 * LARGEST_OWN), (size, findings)
        again = sites.on(shop, "init", "--log", "--apply")
        assert (again.exit, again.json["diff"]) == (0, ""), again
        sites.on(shop, "leave", "--apply")
        assert (path.exists(), sites.test().returncode) == (False, 0)


def test_a_log_with_everything_that_is_a_link_to_a_pipe_gets_ours_beside_it(any_nginx, tmp_path):
    """As in nginx's official image."""
    with two_sites(any_nginx, tmp_path) as sites:
        shop = sites.shop
        assert sites.init(shop).exit == 0
        variable = re.search(r"\$upswitch_\w+_generation", (shop.dir / "live/marker.conf").read_text())[0]
        fields = f"$msec $status $request_time $remote_addr $upstream_addr $upstream_status $request_completion {variable}"
        text = sites.conf.read_text()
        sites.conf.write_text(text.replace("access_log access.log;", f"log_format full '{fields}'; access_log access.log full;"))
        sites.reload()
        assert sites.on(shop, "init", "--log").json["log"] == ""
        (tmp_path / "access.log").unlink()
        os.mkfifo(tmp_path / "pipe")
        (tmp_path / "access.log").symlink_to("pipe")
        reading = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
        try:
            assert sites.on(shop, "init", "--log").json["log"].startswith(f"{tmp_path}/upswitch_shop")
        finally:
            os.close(reading)
