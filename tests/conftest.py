"""Fixtures shared by all tests: each nginx of this machine in turn, and a laboratory around it."""

import gc
import os
import shlex
import signal
import sys
import zlib
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from command import Command
from fleetlab import FleetLab
from forked import popen_program
from pure import is_pure
from skips import NONE_HERE
from upswitch_lab.find import CHECK_ENV, find_check_nginx, find_nginx, read_build
from upswitch_lab.lab import Lab
from upswitch_lab.process import Process

# As installed: compiled once. With this variable each command of a test would compile upswitch anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

gc.disable()  # until all is collected: what is made by then stays, and looking at it again and again is half a second

Lab.keeps_failed = True
Process.popen = staticmethod(popen_program)

# How long an example takes is the machine's doing, not the code's.
settings.register_profile("all", deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
settings.register_profile("pure", settings.get_profile("all"), max_examples=10)

# A job in the background is started with SIGINT ignored, nohup's with SIGHUP; what the tests start must not inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

NO_MODULE = pytest.param("", marks=pytest.mark.skip(reason=f"no nginx with a check module: set {CHECK_ENV} to one"), id="none")


@pytest.fixture(params=[pytest.param(path, id=version) for version, path in find_nginx()] or [NONE_HERE])
def nginx(request) -> str:
    """The path of one nginx binary."""
    return request.param


@pytest.fixture(params=[pytest.param(path, id=version) for version, path in find_nginx()[-1:]] or [NONE_HERE])
def one_nginx(request) -> str:
    """For what takes seconds and is not nginx's doing: one version is enough."""
    return request.param


@pytest.fixture(
    scope="session",
    params=[
        pytest.param(path, id=version) for version, path in find_nginx() if (build := read_build(path)) and build.needs_drain_flag
    ]
    or [NONE_HERE],
)
def old_nginx(request) -> str:
    """The path of an nginx that needs the drain flag."""
    return request.param


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--every-nginx", action="store_true", help="all tests with each nginx here, not most with one of them")
    parser.addoption("--pure", action="store_true", help="only the tests that start no program; properties with fewer examples")


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("pure" if config.getoption("pure") else "all")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`any_nginx`: one of them by the test's name, so that each version has its share; all where a test is marked every_nginx."""
    if "any_nginx" not in metafunc.fixturenames:
        return
    found = [pytest.param(path, id=version) for version, path in find_nginx()] or [NONE_HERE]
    is_all = metafunc.config.getoption("every_nginx") or metafunc.definition.get_closest_marker("every_nginx")
    chosen = zlib.crc32(metafunc.definition.originalname.encode()) % len(found)
    metafunc.parametrize("any_nginx", found if is_all else [found[chosen]])


_WAITING = (
    *("playbooks", "incident", "kill_sweep", "two_sites", "demo", "fleet", "pipelines", "deadman", "systemd", "switch", "way_back"),
    *("hang", "spike", "tried", "ending", "ssh_connection", "logs", "streams", "attack", "own_limits", "watch", "rule", "replay"),
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The tests that wait longest begin first, so that all workers end at about the same time."""
    if config.getoption("pure"):
        pure = {item: is_pure(item) for item in items}
        config.hook.pytest_deselected(items=[item for item in items if not pure[item]])
        items[:] = [item for item in items if pure[item]]
    place = {f"test_{name}.py": at for at, name in enumerate(_WAITING)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.fixture(params=[pytest.param(path, id=name) for name, path in find_check_nginx()] or [NO_MODULE])
def check_nginx(request) -> str:
    """The path of one nginx with a health check module."""
    return request.param


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """A failed test keeps the folders of its laboratories, and says how to run it alone."""
    report = yield
    if report.failed:
        Lab.has_failed = True
        fixtures = [value.folder for value in item.funcargs.values() if isinstance(value, Lab | FleetLab)]
        folders = "".join(f"\nits laboratory is kept in {folder}" for folder in (*Lab.kept, *fixtures))
        report.sections.append(("run it alone", f"scripts/test {shlex.quote(item.nodeid)}{folders}"))
    if call.when == "teardown":
        Lab.has_failed = False
        Lab.kept.clear()
    return report


@pytest.fixture(autouse=True)
def _nothing_is_left_under_way() -> Iterator[None]:
    yield
    Command.kill_left()


@pytest.fixture
def lab(any_nginx) -> Iterator[Lab]:
    """Two pools of two servers behind one nginx; A serves."""
    with Lab(any_nginx) as lab:
        yield lab
