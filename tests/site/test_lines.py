"""Each problem of a site file has its line, and the line itself unless it may hold a secret."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upswitch.site.lines import located
from upswitch.site.model import Problem
from upswitch.site.read import SiteInvalid, parse_site

FILE = """\
name = "shop"
[nginx]
dirr = "/srv"   # a wrong key
reload = [
  "systemctl",
  "a b",
]

[upstreams."app.v2"]
A = ["127.0.0.1:8001"]
B = [
  "127.0.0.1:8001 wait=3",
]
check = { type = "http", rise = 0, http_send = "GET /marker-secret HTTP/1.0\\r\\n\\r\\n" }
[gate]
interval = "0s"
http_send = "marker-secret"
[watch]
prob = "http://u:marker-secret@h/"
"""


def problems(text):
    with pytest.raises(SiteInvalid) as caught:
        parse_site(text)
    return caught.value.problems


def test_each_problem_has_the_line_of_its_key_and_the_line_itself():
    found = problems(FILE)
    assert {each.key: (each.line, each.source) for each in found} == {
        "nginx.dirr": (3, 'dirr = "/srv"   # a wrong key'),
        "nginx.reload": (6, '"a b",'),
        'upstreams."app.v2".B': (12, '"127.0.0.1:8001 wait=3",'),
        'upstreams."app.v2".check.rise': (14, ""),  # the line has a request in it
        "gate.interval": (16, 'interval = "0s"'),
        "gate.http_send": (17, ""),
        "watch.prob": (19, ""),
    }
    assert [each.line for each in found] == sorted(each.line for each in found)
    assert "line 3: nginx.dirr = " in found[0].text
    assert found[0].text.endswith('\n    3 | dirr = "/srv"   # a wrong key')
    assert "marker-secret" not in "".join(each.text for each in found)


def test_windows_ends_of_lines_and_unusual_spaces_count_as_in_an_editor():
    assert problems("# \x85 \u2028\r\n\r\n[upstreams.a]\r\nA = []\r\n")[0].line == 4


def test_a_key_that_is_missing_has_the_line_of_its_table_or_none():
    (found,) = problems('[nginx]\nuser = "root"\n[upstreams.app]\n')
    assert (found.key, found.line, found.source) == ("upstreams.app", 3, "[upstreams.app]")
    assert problems("")[0].line == 0


@pytest.mark.parametrize(
    ("text", "line", "source"),
    [
        ("[nginx]\nuser = root\n", 2, "user = root"),
        ("[gate]\nhttp_send = marker-secret\n", 2, ""),
        ("[upstreams.a.check.fastcgi_param]\nA = marker-secret\n", 2, ""),
        ('[gate]\nhttp_send = """GET /\nmarker-secret', 3, ""),
        ("a = 1\na = 2\n", 2, "a = 2"),
    ],
)
def test_broken_toml_has_its_line_unless_that_may_be_a_secret(text, line, source):
    (found,) = problems(text)
    assert (found.line, found.source) == (line, source)
    assert f"line {line}: must be TOML" in found.text
    assert "marker-secret" not in found.text


KEYS = st.text("abc._-\"' é", min_size=1, max_size=6).filter(lambda key: not set(key) <= set("abc_-"))
VALUES = ["1", '["x",\n"y"\n]', '"""\n[no]\nk = 1\n"""', "{ q = 1 }"]


@given(st.lists(st.tuples(KEYS, st.sampled_from(VALUES)), unique_by=lambda each: each[0]))
def test_every_key_is_found_whatever_stands_between(pairs):
    text, line, wanted = "[top]\n", 2, {}
    for key, value in pairs:
        wanted[f"top.{json.dumps(key)}"] = line
        text += f"{json.dumps(key)} = {value}\n# [not]\n"
        line += value.count("\n") + 2
    found = located([Problem(key=key, value="1", allowed="") for key in wanted], text)
    assert {each.key: each.line for each in found} == wanted
