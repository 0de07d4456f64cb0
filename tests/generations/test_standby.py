"""Standbys: which servers a generation has as standbys."""

from upswitch.generations.generation import Manifest, served_as, standby_name, standbys
from upswitch.site.read import parse_site

SITE = parse_site("""
[upstreams.app]
A = ["10.0.0.1:80", "10.0.0.2:80"]
B = ["10.0.0.3:80"]
C = ["10.0.0.4:80"]
check = {type = "tcp"}
[upstreams.api]
A = ["10.0.1.1:80"]
B = ["10.0.1.2:80"]
C = ["10.0.1.3:80"]
""")
IDLE = {
    "A": {"app": ("10.0.0.1:80", "10.0.0.2:80")},
    "B": {"app": ("10.0.0.3:80",)},
    "C": {"app": ("10.0.0.4:80",)},
}


def manifest(pool, *addresses):
    return Manifest(name=f"000001-{pool}", pool=pool, sha256={}, servers={"app": addresses})


def found(serving, former=None, idle=IDLE):
    return {each.name: each.addresses for each in standbys(SITE, serving, known=idle, former=former)}


def test_every_other_pool_of_an_upstream_with_a_check_is_a_standby():
    assert found({"app": IDLE["A"]["app"]}) == {"app__standby_B": ("10.0.0.3:80",), "app__standby_C": ("10.0.0.4:80",)}


def test_the_servers_that_serve_now_are_a_standby_even_if_the_site_file_has_changed():
    former = manifest("A", "10.0.0.1:80", "10.9.9.9:80")
    assert found({"app": ("10.0.0.3:80",)}, former)["app__standby_A"] == ("10.0.0.1:80", "10.9.9.9:80")
    renamed = manifest("old", "10.9.9.9:80")
    assert found({"app": ("10.0.0.3:80",)}, renamed)["app__standby_old"] == ("10.9.9.9:80",)


def test_servers_that_leave_their_pool_become_a_standby_with_its_name():
    assert found({"app": ("10.0.0.1:80",)}, manifest("A", "10.0.0.1:80", "10.9.9.9:80"))["app__standby_A"] == ("10.9.9.9:80",)


def test_a_standby_has_no_host_names_because_nginx_would_not_start_if_one_did_not_resolve():
    idle = {"B": {"app": ("b.example:80", "10.0.0.3:80", "unix:/run/b.sock", "[::1]:80")}}
    assert found({"app": IDLE["A"]["app"]}, idle=idle) == {"app__standby_B": ("10.0.0.3:80", "[::1]:80", "unix:/run/b.sock")}
    assert found({"app": IDLE["A"]["app"]}, idle={"B": {"app": ("b.example:80",)}}) == {}


def test_a_standby_begins_as_up_if_it_serves_now_and_as_down_if_it_is_new():
    found = standbys(SITE, {"app": ("10.0.0.3:80",)}, known=IDLE, former=manifest("A", "10.0.0.1:80"))
    assert {each.name: each.check.default_down for each in found} == {"app__standby_A": False, "app__standby_C": True}


def test_a_server_that_the_site_file_marks_down_is_in_no_standby():
    site = parse_site('[upstreams.app]\nA = ["10.0.0.1:80 down", "10.0.0.2:80"]\nB = ["10.0.0.3:80"]\ncheck = {type = "tcp"}\n')
    (standby,) = standbys(site, {"app": ("10.0.0.3:80",)}, known={}, former=manifest("A", "10.0.0.1:80", "10.0.0.2:80"))
    assert standby.addresses == ("10.0.0.2:80",)


def test_the_name_of_a_standby_has_the_upstream_and_the_pool():
    assert served_as(standby_name("app", "B"), "A") == ("app", "B")
    assert served_as("app", "A") == ("app", "A")
