"""Which tests are pure: they reach nothing that starts an nginx, an sshd, a command or another program.

No list names them. From a test's function the walk goes over the names that its code uses, into the functions and classes of
tests and upswitch_lab, into its fixtures and its parameters. It errs on the safe side: a name that is used as an attribute and
is also a global counts as that global.
"""

from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from types import CodeType, FunctionType, ModuleType

import pytest

STARTERS = ("subprocess", "multiprocessing", "pty", "upswitch_lab.find", "upswitch_lab.process", "upswitch.generations.limited")
"""The modules by which tests start programs."""


def is_pure(item: pytest.Function) -> bool:
    reached = {item.function, *_fixtures(item), *_functions_in(item.callspec.params if hasattr(item, "callspec") else ())}
    return not any(map(_starts, reached))


def _fixtures(item: pytest.Function) -> Iterator[FunctionType]:
    for name, found in item._fixtureinfo.name2fixturedefs.items():
        if not name.startswith("_"):  # the fixtures that every test has
            yield from (each.func for each in found if isinstance(each.func, FunctionType))


def _functions_in(value: object) -> Iterator[object]:
    """Functions and classes in a value, also inside containers and partials."""
    if isinstance(value, FunctionType | type | ModuleType):
        yield value
    elif isinstance(value, partial):
        yield from _functions_in(value.func)
    elif isinstance(value, dict):
        yield from (found for each in value.values() for found in _functions_in(each))
    elif isinstance(value, tuple | list | set | frozenset):
        yield from (found for each in value for found in _functions_in(each))
    elif type(value).__module__ not in {"builtins", "re"}:
        yield type(value)


@cache
def _starts(reached: object) -> bool:
    """Whether a function, a class or a module leads to STARTERS. Cycles end at the first visit."""
    seen: set[object] = set()
    todo = [reached]
    while todo:
        each = todo.pop()
        if each in seen:
            continue
        seen.add(each)
        module = each.__name__ if isinstance(each, ModuleType) else each.__module__
        if module in STARTERS:
            return True
        if _is_ours(module):
            todo += _used_by(each)
    return False


def _is_ours(module: str) -> bool:
    return not module.startswith(("upswitch.", "_pytest", "hypothesis")) and (
        module.startswith(("test_", "tests.", "upswitch_lab", "conftest")) or module in _lab_modules()
    )


@cache
def _lab_modules() -> frozenset[str]:
    return frozenset(path.stem for path in Path(__file__).parent.glob("*.py"))


@cache
def _used_by(each: object) -> tuple[object, ...]:
    return tuple(_uses(each))


def _uses(each: object) -> Iterator[object]:
    if isinstance(each, type):
        for member in vars(each).values():
            function = getattr(member, "__func__", None) or getattr(member, "fget", None) or member
            if isinstance(function, FunctionType):
                yield function
        yield from each.__bases__
    elif isinstance(each, FunctionType):
        inner = getattr(each, "hypothesis", None)
        if inner is not None:
            yield inner.inner_test
        if hasattr(each, "__wrapped__"):
            yield each.__wrapped__
        for name in _names(each.__code__):
            if name in each.__globals__:
                yield from _functions_in(each.__globals__[name])


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
