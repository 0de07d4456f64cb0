"""Lines that nginx takes only once in http: which of several sites renders them, and that no two ever do."""

import itertools

import pytest

from dumps import made_dump
from upswitch.generations import once
from upswitch.nginx.dump import parse_dump

TIMEOUT = "keepalive_min_timeout 1s;"
A, B = "/e/a/live", "/e/b/live"


def conf(*, http="", a="", b="", includes=(A, B)):
    """An nginx with these two sites, each with a marker that holds these lines."""
    lines = "".join(f"include {live}/*.conf; " for live in includes)
    markers = {f"{live}/marker.conf": f"server {{ }}\n{text}\n" for live, text in ((A, a), (B, b)) if live in includes}
    return parse_dump(made_dump({"/e/nginx.conf": f"http {{ {lines}{http} }}", **markers}))


@pytest.mark.parametrize(
    ("present", "holders"),
    [
        ({}, (A,)),
        ({"a": TIMEOUT}, (A,)),
        ({"b": TIMEOUT}, (B,)),
        ({"http": TIMEOUT}, ()),
        ({"http": f"server {{ {TIMEOUT} }}"}, (A,)),
        ({"includes": (B,)}, (B,)),
        ({"includes": (B, A)}, (B,)),
    ],
)
def test_the_owners_line_comes_first_then_that_of_the_site_that_has_it_then_the_first_site(present, holders):
    read = conf(**present)
    lives = present.get("includes", (A, B))
    assert tuple(live for live in lives if once.may_hold(read, "keepalive_min_timeout", live=live)) == holders


def test_a_site_that_is_being_adopted_adds_the_line_only_where_no_other_site_is():
    assert once.may_hold(conf(includes=()), "check_shm_size", live=A)
    assert not once.may_hold(conf(includes=(B,)), "check_shm_size", live=A)


def test_two_sites_that_render_at_the_same_moment_never_both_hold_the_line():
    """From any allowed beginning. `wants`: a site may also leave its line out, by nginx.drain = 0. Each change may be undone."""
    name = "keepalive_min_timeout"
    for a, b, wants_a, wants_b in itertools.product([False, True], repeat=4):
        if a and b:
            continue
        before = conf(a=TIMEOUT if a else "", b=TIMEOUT if b else "")
        new_a = wants_a and once.may_hold(before, name, live=A)
        new_b = wants_b and once.may_hold(before, name, live=B)
        for now_a, now_b in itertools.product([a, new_a, a and new_a], [b, new_b, b and new_b]):
            assert not (now_a and now_b), (a, b, wants_a, wants_b)
        later = conf(a=TIMEOUT if new_a else "", b=TIMEOUT if b else "")
        assert not (a and new_a and once.may_hold(later, name, live=B)), (a, b, wants_a)


def test_a_copy_leaves_out_lines_that_another_file_holds_now_and_nothing_else():
    marker = f"# 000001-A\n# why\n{TIMEOUT}\ncheck_shm_size 2m;\nserver {{ listen 127.0.0.1:1; }}\n"
    assert once.without(marker, ("keepalive_min_timeout",)) == marker.replace(f"{TIMEOUT}\n", "")
    assert once.without(marker, ()) == marker
    assert once.missing(marker) == ()
    assert once.missing("server { }") == once.NAMES
    assert once.without('server { "', once.NAMES) == 'server { "'
