"""Several sites on one nginx: each is adopted, switched, watched and rolled back by itself."""

import signal
import socket

import pytest

from command import Command
from twosites import two_sites
from upswitch_lab.find import read_build
from upswitch_lab.lab import Load
from upswitch_lab.process import until


def proved(answer, pool):
    assert answer.exit == 0, answer
    assert (answer.json["production"]["pool"], answer.json["production"]["proved"]) == (pool, True), answer


def rendered(sites):
    """How often each site has the line that nginx takes only once."""
    return [(app.dir / "live/marker.conf").read_text().count("\nkeepalive_min_timeout ") for app in sites.apps]


@pytest.mark.every_nginx
def test_a_second_application_becomes_a_site_of_its_own(any_nginx, tmp_path):
    """Beside a line of the owner's own that nginx takes only once, where this nginx has it."""
    with two_sites(any_nginx, tmp_path) as sites:
        if read_build(any_nginx).has_min_timeout:
            sites.conf.write_text(sites.conf.read_text().replace("# more", "keepalive_min_timeout 2s;"))
            sites.reload()
        sites.adopt()
        shop, blog = sites.apps
        for app in sites.apps:
            proved(sites.on(app, "status"), "A")
        assert shop.marker != blog.marker
        unsaid = sites.upswitch("switch", "--to", "B")
        assert (unsaid.exit, unsaid.json["outcome"]) == (2, "USAGE")
        assert all(f"{app.name} ({app.site_file})" in unsaid.json["said"] for app in sites.apps)
        proved(sites.on(shop, "switch", "--to", "B"), "B")
        proved(sites.on(blog, "status"), "A")
        proved(sites.on(blog, "switch", "--to", "B"), "B")
        proved(sites.on(shop, "rollback"), "A")
        assert (shop.serves, shop.answers, blog.serves, blog.answers) == ("A", shop.live, "B", blog.live)
        listed = sites.upswitch("sites")
        rows = {row["name"]: (row["pool"], row["generation"], row["proved"]) for row in listed.json["sites"]}
        assert (listed.exit, rows) == (0, {shop.name: ("A", shop.live, True), blog.name: ("B", blog.live, True)})
        assert (rendered(sites), sites.test().returncode) == ([0, 0], 0)


@pytest.mark.every_nginx
def test_two_sites_that_switch_at_the_same_moment_lose_no_request_and_both_are_proved(any_nginx, tmp_path):
    with two_sites(any_nginx, tmp_path) as sites:
        sites.adopt()
        options = ("--connections", "8", "--think", "20")
        loads = [Load(f"http://{app.public}/", tmp_path / f"{app.name}.load", options) for app in sites.apps]
        try:
            for load in loads:
                load.await_flowing()
            for pool in "BA":
                commands = [sites.begin("switch", "--to", pool, "-s", app.name) for app in sites.apps]
                for answer in map(sites.end, commands):
                    proved(answer, pool)
            for load in loads:
                load.finish()
        finally:
            for load in loads:
                load.end()
        for app, load in zip(sites.apps, loads, strict=True):
            assert (app.serves, app.answers) == ("A", app.live)
            assert (load.summary.lost, load.summary.failed) == (0, 0), load.summary
            assert {body[:1] for body in load.summary.bodies} == {"A", "B"}
        assert rendered(sites) == [int(read_build(any_nginx).has_min_timeout), 0]


def test_a_second_site_that_nginx_rejects_is_undone_and_the_first_one_serves_on(any_nginx, tmp_path):
    with two_sites(any_nginx, tmp_path) as sites, socket.socket() as thief:
        shop, blog = sites.apps
        sites.adopt_one(shop)
        before = sites.conf.read_text()
        thief.bind(("127.0.84.1", 0))  # bound, but not listening: only the reload finds it
        refused = sites.init(blog, f"--marker=127.0.84.1:{thief.getsockname()[1]}")
        assert (refused.exit, "bind" in refused.json["said"]) == (3, True), refused
        assert (sites.conf.read_text(), blog.site_file.exists(), (blog.dir / "live").is_symlink()) == (before, False, False)
        proved(sites.on(shop, "switch", "--to", "B"), "B")
        sites.adopt_one(blog)
        proved(sites.on(blog, "status"), "A")
        proved(sites.on(shop, "status"), "B")


def test_the_dead_man_of_one_site_takes_only_that_site_back_and_a_watch_goes_on_over_it(any_nginx, tmp_path):
    with two_sites(any_nginx, tmp_path) as sites:
        sites.adopt(watch="60s")
        shop, blog = sites.apps
        killed = Command(shop, "switch", "--to", "B")
        killed.wait_for("t+1s")
        watched = Command(blog, "switch", "--to", "B")
        watched.wait_for("t+1s")
        killed.signal(signal.SIGKILL)
        killed.end()
        until(lambda: shop.answers.endswith("-A"), deadline=60.0, what="the dead-man of the shop")
        assert (shop.serves, shop.answers, blog.serves, blog.answers) == ("A", shop.live, "B", blog.live)
        watched.signal(signal.SIGTERM)
        assert watched.end().json["outcome"] == "ROLLED_BACK"
        assert sites.on(shop, "repair").json["production"]["pool"] == "A"
        proved(sites.on(shop, "status"), "A")
        proved(sites.on(blog, "status"), "A")


def test_a_site_from_before_sites_had_names_goes_on_as_it_was_beside_a_new_one(any_nginx, tmp_path):
    with two_sites(any_nginx, tmp_path) as sites:
        shop, blog = sites.apps
        sites.adopt_one(shop)
        sites.make_old(shop)
        line = "log_format mine '$status $request_time $upstream_addr $upstream_status $upswitch_generation $msec';"
        sites.conf.write_text(sites.conf.read_text().replace("access_log access.log;", f"{line} access_log access.log mine;"))
        sites.reload()
        until(lambda: shop.answers == shop.live, what="the old marker")
        sites.adopt_one(blog)
        proved(sites.on(shop, "status"), "A")
        there = sites.on(shop, "switch", "--to", "B")
        proved(there, "B")
        assert "It tells pools apart by $upswitch_generation." in there.err
        proved(sites.on(blog, "switch", "--to", "B"), "B")
        proved(sites.on(shop, "rollback"), "A")
        proved(sites.on(blog, "status"), "B")
        assert [site["variables"] for site in (sites.on(app, "status").json for app in sites.apps)] == [
            "upswitch",
            f"upswitch_{blog.name.replace('-', '__')}",
        ]


def test_two_sites_that_an_older_version_let_collide_are_separated_by_a_rollback_to_what_serves(any_nginx, tmp_path):
    with two_sites(any_nginx, tmp_path) as sites:
        sites.adopt()
        blog = sites.blog
        proved(sites.on(blog, "switch", "--to", "B", "--no-watch"), "B")
        for app in sites.apps:
            sites.make_old(app)
        sites.reload()
        until(lambda: sites.shop.answers == blog.live, what="the answer of the wrong site")
        assert sites.on(sites.shop, "status").exit == 3
        assert sites.on(sites.shop, "switch", "--to", "B").json["outcome"] == "REFUSED"
        proved(sites.on(sites.shop, "rollback", "--to", "1"), "A")
        proved(sites.on(sites.shop, "switch", "--to", "B"), "B")
        assert (sites.shop.serves, blog.serves) == ("B", "B")
