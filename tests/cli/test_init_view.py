"""The list that `init` begins with, and the numbers that a person answers."""

import click
import pytest

from upswitch.cli.commands.init import _numbers
from upswitch.cli.views.plan import FoundView
from upswitch.init.found import FoundUpstream


def upstream(name, file="/e/shop.conf", **more):
    return FoundUpstream(name=name, place=f"{file}:1", servers=("127.0.0.1:1",), passes=("/e/shop.conf:9",), **more)


def test_the_upstreams_of_one_file_have_a_command_for_all_of_them_with_the_options_that_name_the_nginx():
    seen = (
        upstream("web", others=("spare",)),
        upstream("api"),
        upstream("other", "/e/other.conf"),
        upstream("ours", is_managed=True),
    )
    view = FoundView(command="init", exit=0, upstreams=seen, words=("--nginx-conf", "/e/n.conf"))
    tail = "--nginx-conf /e/n.conf"
    assert view.commands == (
        f"upswitch init --upstream web --pool A --other spare {tail}",
        f"upswitch init --upstream api --pool A {tail}",
        f"upswitch init --upstream other --pool A {tail}",
    )
    assert view.together == (f"upswitch init --upstream web --upstream api --pool A --other web=spare {tail}",)


def test_an_nginx_that_passes_nothing_on_is_told_what_is_missing():
    assert "let a location pass requests to your servers" in FoundView(command="init", exit=0, upstreams=()).text


@pytest.mark.parametrize(("text", "numbers"), [("0", []), ("1", [1]), ("2, 1 2", [2, 1])])
def test_a_person_may_choose_several_upstreams(text, numbers):
    assert _numbers(text, most=2) == numbers


@pytest.mark.parametrize("text", ["", "3", "1,x", "-1"])
def test_numbers_that_are_not_in_the_list_are_refused(text):
    with pytest.raises(click.BadParameter, match="from 0 to 2"):
        _numbers(text, most=2)
