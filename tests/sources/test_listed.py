"""The text of a source: what it may hold, and one clear reason where it is wrong."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upswitch.site.server_line import parse_server
from upswitch.sources.listed import LARGEST, SourceError, servers

TWO = ("10.0.0.1:80", "[::1]:81 weight=2")


@pytest.mark.parametrize(
    ("text", "is_toml"),
    [
        ("10.0.0.1:80\n[::1]:81 weight=2\n", False),
        ("# blue\r\n\r\n  10.0.0.1:80\r\n\t[::1]:81 weight=2", False),
        (json.dumps(TWO), False),
        (json.dumps({"servers": TWO, "made_at": "today"}, indent=2), False),
        ('servers = [\n  "10.0.0.1:80",\n  "[::1]:81 weight=2",\n]\n', True),
    ],
    ids=["lines", "comments", "json_list", "json_table", "toml"],
)
def test_a_list_is_read_in_each_of_its_forms(text, is_toml):
    assert tuple(each.text for each in servers(text.encode(), is_toml=is_toml)) == TWO


def test_a_line_that_begins_with_an_ipv6_address_is_no_json():
    assert [each.address for each in servers(b"[::1]:80\n[::2]:80\n")] == ["[::1]:80", "[::2]:80"]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "it has no server"),
        (b"\n# nobody\n", "it has no server"),
        (b"[]", "it has no server"),
        (b"10.0.0.1:80 down\n", "no server that is not down"),
        (b"10.0.0.1:80\n10.0.0.1\n", 'line 2: "10.0.0.1" must stand only once'),
        (b"10.0.0.1:80; } server { listen 81; } upstream x { server 1.1.1.1\n", "line 1: "),
        (b"10.0.0.1:80\n10.0.0.2:80 include=/etc/passwd\n", "line 2: "),
        (b"\x1b[31m10.0.0.1\n", "must be printable ASCII"),
        (b"10.0.0.1:80\n\xff\n", "line 2: it must be ASCII, and has the byte \\xff"),
        (b"10.0.0.1:80\0", "must be printable ASCII"),
        (b'["10.0.0.1:80"', "it begins as JSON"),
        (b'["10.0.0.1:80", 7]', "must be a list of servers in quotes"),
        (b'{"hosts": []}', "must be a list of servers in quotes"),
        (b"{" * 100_000, "it begins as JSON"),
        (b'[["' * 100_000, "must be|it begins as JSON|printable"),
        (b"<html>502 Bad Gateway</html>", "line 1: "),
        (b"#" * (LARGEST + 1), "it has more than 1,000,000 bytes"),
    ],
)
def test_a_wrong_list_says_where_and_what(data, said):
    with pytest.raises(SourceError, match=said if "|" in said else re.escape(said)):
        servers(data)


def test_wrong_toml_is_named_as_that():
    with pytest.raises(SourceError, match="it is no TOML"):
        servers(b"10.0.0.1:80\n", is_toml=True)


@given(st.binary(max_size=200))
def test_no_text_gives_more_than_what_a_server_line_may_hold(data):
    try:
        found = servers(data)
    except SourceError as exc:
        said, found = str(exc), ()
    else:
        said = ""
    assert said.isprintable()
    assert all(parse_server(each.text) == each for each in found)
