"""A site's name, what is its own by that name, and what two sites may not share."""

import ipaddress

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from upswitch.site import names
from upswitch.site.model import Nginx
from upswitch.site.read import SiteInvalid, parse_site

NAMES = st.from_regex(r"[a-z0-9]{1,4}([._-][a-z0-9]{1,4}){0,4}", fullmatch=True)
APP = '[upstreams.app]\nA = ["127.0.0.1:1"]\nB = ["127.0.0.1:2"]\n'
BLOG = APP.replace("app", "blog")


@given(one=NAMES, other=NAMES)
def test_two_names_never_give_one_folder_one_variable_or_one_address(one, other):
    assume(one != other)
    mine, theirs = names.own(one, Nginx()), names.own(other, Nginx())
    assert {mine.dir, mine.state, mine.marker}.isdisjoint({theirs.dir, theirs.state, theirs.marker})
    assert names.prefix_of(one) != names.prefix_of(other)
    assert {names.prefix_of(one), names.UNNAMED} == {
        names.prefix_in(f"{each}_generation") for each in (names.prefix_of(one), "upswitch")
    }
    assert mine.marker != Nginx().marker


@given(name=NAMES)
def test_the_address_of_a_marker_is_loopback_and_never_that_of_localhost(name):
    host, _, port = names.own(name, Nginx()).marker.rpartition(":")
    assert ipaddress.ip_address(host).is_loopback
    assert (host.startswith("127.0.0."), port) == (False, "8008")


@pytest.mark.parametrize(
    ("upstream", "name"),
    [
        ("tornado_servers", "tornado_servers"),
        ("App.v2", "app.v2"),
        ("my-app", "my-app"),
        ("a--b", "a_b"),
        ("_", "site"),
        ("x" * 64, "x" * 48),
    ],
)
def test_a_site_is_named_after_its_first_upstream(upstream, name):
    assert names.default_name(upstream) == name
    assert names.is_name(name)
    text = APP.replace("[upstreams.app]", f'[upstreams."{upstream}"]')
    assert parse_site(text).name == name


def test_a_site_file_without_a_name_keeps_the_places_that_it_always_had():
    assert parse_site(APP).nginx == Nginx()
    named = parse_site(f'name = "shop"\n{APP}')
    assert (named.name, named.nginx.dir, named.nginx.state) == ("shop", "/etc/nginx/upswitch-shop", "/var/lib/upswitch-shop")
    assert parse_site(f'name = "shop"\n[nginx]\ndir = "/srv/up"\n{APP}').nginx.dir == "/srv/up"


@pytest.mark.parametrize("name", ["", "Shop", "-x", "a/b", "..", "a..b", "x" * 49, "a\\nb", "-c"])
def test_a_wrong_name_is_refused_with_what_is_allowed(name):
    with pytest.raises(SiteInvalid, match=r"name = .*must be a name of up to 48 small letters") as refused:
        parse_site(f'name = "{name}"\n{APP}')
    assert len(refused.value.problems) == 1


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        (APP, BLOG, "the folder /etc/nginx/upswitch (nginx.dir)"),
        (f'name = "shop"\n{APP}', f'name = "blog"\n{APP}', "the upstream app of /etc/nginx/nginx.conf"),
        (f'name = "shop"\n{APP}', f'name = "blog"\n{BLOG}', ""),
        (
            f'name = "shop"\n[nginx]\nstate = "/srv/x"\n{APP}',
            f'name = "blog"\n[nginx]\ndir = "/srv/x"\n{BLOG}',
            "the folder /srv/x (nginx.state)",
        ),
        (
            f'name = "shop"\n[nginx]\nmarker = "127.0.84.1:8008"\n{APP}',
            BLOG,
            "the address 127.0.84.1:8008 (nginx.marker)",
        ),
        (f'name = "shop"\n{APP}', f'name = "shop"\n{APP}{BLOG}', ""),  # two versions of one site's file
        (f'{APP}[hosts]\nlb1 = "lb1"\n', f'{BLOG}[hosts]\nlb1 = "lb2"\n', ""),
        (f'{APP}[hosts]\nlb1 = "lb1"\n', f'{BLOG}[hosts]\nedge = "lb1"\n', "the folder /etc/nginx/upswitch on lb1 (nginx.dir)"),
    ],
)
def test_two_sites_may_share_no_folder_no_address_and_no_upstream(one, other, said):
    assert names.shared(parse_site(one), parse_site(other)) == said
    assert bool(names.shared(parse_site(other), parse_site(one))) == bool(said)
