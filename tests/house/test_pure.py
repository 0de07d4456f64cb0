"""`scripts/test --pure`: which tests it takes."""

import subprocess
from types import SimpleNamespace

import pytest

from pure import is_pure
from upswitch_lab.lab import Lab


def _starts_a_program():
    return subprocess.run(("true",), check=True)


def _goes_there():
    return [_starts_a_program() for _ in "ab"]


class _Kept:
    def begin(self):
        return Lab("nginx")


def _asks_the_class():
    return _Kept().begin()


def _only_decides():
    return sorted("ba")


def _item(function, **fixtures):
    found = {name: [SimpleNamespace(func=each)] for name, each in fixtures.items()}
    return SimpleNamespace(function=function, _fixtureinfo=SimpleNamespace(name2fixturedefs=found))


@pytest.mark.parametrize("function", [_starts_a_program, _goes_there, _asks_the_class])
def test_what_leads_to_a_program_is_not_pure_however_far_the_way(function):
    assert not is_pure(_item(function))
    assert not is_pure(_item(_only_decides, host=function))


def test_what_only_decides_is_pure_whatever_every_test_has_around_it():
    assert is_pure(_item(_only_decides, _around_every_test=_starts_a_program))
