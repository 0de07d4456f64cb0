"""What the marker answers, read as values."""

import pytest

from upswitch.nginx.marker import down, held_down, parse_check_status, unknown
from upswitch.site.model import Dialect

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


def test_check_status_is_read_and_shows_which_module_wrote_it():
    status = parse_check_status(YAOWEIBIN)
    assert [each.text for each in status.servers] == [
        "app 10.0.0.1:80 up (4 successes in a row)",
        "app__standby_B [::1]:80 down (2 failures in a row)",
    ]
    assert status.dialect is Dialect.YAOWEIBIN
    assert parse_check_status(TENGINE).dialect is Dialect.TENGINE


@pytest.mark.parametrize("body", [b"", b"000001-A 12\n", b"{}", b'{"servers": []}', b"\xff", YAOWEIBIN[:-9]])
def test_any_other_answer_is_none(body):
    assert parse_check_status(body) is None


def test_servers_that_nginx_does_not_check_and_servers_that_are_down_are_listed_apart():
    status = parse_check_status(YAOWEIBIN)
    wanted = {"app": ("10.0.0.1:80", "[0::1]:80", "10.0.0.9:80")}
    assert unknown(status, wanted) == ("10.0.0.9:80",)
    assert down(status, wanted) == ("app [0::1]:80 down (2 failures in a row)", "app 10.0.0.9:80 not checked")
    assert unknown(None, wanted) == wanted["app"]
    assert len(down(None, wanted)) == 3


def test_an_upstream_is_held_down_where_no_server_of_it_is_up_and_a_standby_does_not_count():
    status = parse_check_status(YAOWEIBIN)
    assert held_down(status, ("app", "other")) == ()
    dead = parse_check_status(YAOWEIBIN.replace(b'"status": "up"', b'"status": "down"').replace(b"__standby_B", b"2"))
    assert held_down(dead, ("app2", "app", "other")) == ("app2", "app")
    assert held_down(None, ("app",)) == ()
