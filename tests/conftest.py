"""Fixtures shared by all tests: each nginx of this machine in turn, and a laboratory around it."""

from collections.abc import Iterator

import pytest

from upswitch.demo.find import ENV, find_nginx
from upswitch.demo.lab import Lab

NONE_HERE = pytest.param("", marks=pytest.mark.skip(reason=f"no nginx here: run scripts/setup, or set {ENV}"), id="none")


@pytest.fixture(params=[pytest.param(path, id=version) for version, path in find_nginx()] or [NONE_HERE])
def nginx(request) -> str:
    """The path of one nginx binary."""
    return request.param


@pytest.fixture
def lab(nginx) -> Iterator[Lab]:
    """Two pools of two servers behind one nginx; A serves."""
    with Lab(nginx) as lab:
        yield lab
