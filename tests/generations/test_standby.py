"""Standbys: which servers stand by in a generation, and what nginx says of them."""

import pytest

from upswitch.generations.generation import Manifest, served_as, standby_name, standbys
from upswitch.nginx.marker import down, parse_check_status, unknown
from upswitch.site.read import parse_site
from upswitch.site.server_line import canonical, is_address
from upswitch.site.words import Dialect

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


def test_every_other_pool_of_an_upstream_with_a_check_stands_by():
    assert found({"app": IDLE["A"]["app"]}) == {"app__standby_B": ("10.0.0.3:80",), "app__standby_C": ("10.0.0.4:80",)}


def test_what_serves_now_stands_by_too_whatever_the_site_file_says_of_that_pool_today():
    former = manifest("A", "10.0.0.1:80", "10.9.9.9:80")
    assert found({"app": ("10.0.0.3:80",)}, former)["app__standby_A"] == ("10.0.0.1:80", "10.9.9.9:80")
    renamed = manifest("old", "10.9.9.9:80")
    assert found({"app": ("10.0.0.3:80",)}, renamed)["app__standby_old"] == ("10.9.9.9:80",)


def test_a_pool_that_gets_other_servers_leaves_those_that_go_as_a_standby_of_its_own_name():
    assert found({"app": ("10.0.0.1:80",)}, manifest("A", "10.0.0.1:80", "10.9.9.9:80"))["app__standby_A"] == ("10.9.9.9:80",)


def test_a_standby_holds_no_name_as_one_that_stops_resolving_would_keep_nginx_from_starting():
    idle = {"B": {"app": ("b.example:80", "10.0.0.3:80", "unix:/run/b.sock", "[::1]:80")}}
    assert found({"app": IDLE["A"]["app"]}, idle=idle) == {"app__standby_B": ("10.0.0.3:80", "[::1]:80", "unix:/run/b.sock")}
    assert found({"app": IDLE["A"]["app"]}, idle={"B": {"app": ("b.example:80",)}}) == {}


def test_what_serves_now_is_trusted_as_a_standby_and_what_is_new_is_not():
    found = standbys(SITE, {"app": ("10.0.0.3:80",)}, known=IDLE, former=manifest("A", "10.0.0.1:80"))
    assert {each.name: each.check.default_down for each in found} == {"app__standby_A": False, "app__standby_C": True}


def test_a_server_that_the_site_marks_down_now_does_not_stand_by():
    site = parse_site('[upstreams.app]\nA = ["10.0.0.1:80 down", "10.0.0.2:80"]\nB = ["10.0.0.3:80"]\ncheck = {type = "tcp"}\n')
    (standby,) = standbys(site, {"app": ("10.0.0.3:80",)}, known={}, former=manifest("A", "10.0.0.1:80", "10.0.0.2:80"))
    assert standby.addresses == ("10.0.0.2:80",)


def test_a_standbys_name_says_whose_it_is():
    assert served_as(standby_name("app", "B"), "A") == ("app", "B")
    assert served_as("app", "A") == ("app", "A")


@pytest.mark.parametrize(
    ("one", "other"),
    [("[::1]:80", "[0:0::1]:80"), ("[::ffff:10.0.0.1]:80", "[::ffff:a00:1]:80"), ("10.0.0.1:80", "10.0.0.1:80")],
)
def test_two_spellings_of_an_address_are_one(one, other):
    assert canonical(one) == canonical(other) != ""


def test_a_name_is_no_address():
    assert not is_address("big.example:80")
    assert is_address("unix:/run/a.sock")


YAOWEIBIN = b"""{"servers": {
  "total": 2,
  "generation": 3,
  "server": [
    {"index": 0, "upstream": "app", "name": "10.0.0.1:80", "status": "up", "rise": 4, "fall": 0, "type": "http", "port": 0},
    {"index": 1, "upstream": "app__standby_B", "name": "[::1]:80", "status": "down", "rise": 0, "fall": 2, "type": "tcp", "port": 0}
  ]
}}
"""
TENGINE = YAOWEIBIN.replace(b'"total": 2', b'"total": 2, "up": 1, "down": 1')


def test_check_status_is_read_and_tells_whose_it_is():
    status = parse_check_status(YAOWEIBIN)
    assert [each.text for each in status.servers] == [
        "app 10.0.0.1:80 up (4 successes in a row)",
        "app__standby_B [::1]:80 down (2 failures in a row)",
    ]
    assert status.dialect is Dialect.YAOWEIBIN
    assert parse_check_status(TENGINE).dialect is Dialect.TENGINE


@pytest.mark.parametrize("body", [b"", b"000001-A 12\n", b"{}", b'{"servers": []}', b"\xff", YAOWEIBIN[:-9]])
def test_what_is_not_the_modules_answer_is_none(body):
    assert parse_check_status(body) is None


def test_what_nginx_does_not_check_and_what_it_holds_down_are_told_apart():
    status = parse_check_status(YAOWEIBIN)
    wanted = {"app": ("10.0.0.1:80", "[0::1]:80", "10.0.0.9:80")}
    assert unknown(status, wanted) == ("10.0.0.9:80",)
    assert down(status, wanted) == ("app [0::1]:80 down (2 failures in a row)", "app 10.0.0.9:80 not checked")
    assert unknown(None, wanted) == wanted["app"]
    assert len(down(None, wanted)) == 3
