"""The house rules that a program can check."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text("utf-8")) for path in sorted(ROOT.glob("src/**/*.py"))}
TESTS = {path.name: path.read_text("utf-8") for path in sorted(ROOT.glob("tests/**/*.py")) if path.name != "test_style.py"}
EFFECTS = {
    *("os", "time", "subprocess", "socket", "random", "pathlib", "logging", "httpx", "fabric", "paramiko", "threading"),
    *("shutil", "tempfile", "signal", "fcntl", "ssl", "uuid", "secrets", "datetime"),
}


ROOMS = (
    ("cli",),
    ("init", "lint", "fleet"),
    ("switch",),
    ("watch",),
    ("diagnose",),
    ("health",),
    ("generations",),
    ("logs",),
    ("nginx",),
    ("hosts",),
    ("site",),
    ("basics",),
)
"""Top down: a room imports those below it, never those above or beside it."""
FLOOR = {name: number for number, names in enumerate(ROOMS) for name in names}
MAY_ACT = (
    *("__main__", "cli/", "hosts/"),
    *("fleet/going_back", "fleet/switching", "fleet/together"),
    *("diagnose/host", "diagnose/questions", "diagnose/run"),
    *("generations/store", "generations/survey", "generations/templates"),
    *("health/gate/prober", "health/gate/rounds", "health/module/compare"),
    *("init/apply", "init/obstacles", "init/propose", "lint/lint"),
    *("logs/last_minutes", "logs/since", "logs/source", "nginx/check_module", "nginx/running"),
    *("switch/deadman/arm", "switch/drained", "switch/drive", "switch/go", "switch/job", "switch/journal", "switch/plan"),
    *("switch/preflight", "switch/reload/reloader", "switch/reload/sampling", "switch/repair", "switch/rollback"),
    *("switch/session", "switch/steps", "switch/switch", "switch/test_candidate", "switch/warm"),
    *("watch/live", "watch/logs", "watch/replay/replay", "watch/through", "watch/watch"),
)
"""The modules that may act on the world: by a library of EFFECTS, or through a Host. Everything else only decides."""
PURE = ("hosts/count_program", "hosts/host", "hosts/sh", "hosts/ssh/follow_script")
"""What decides in a room that may act."""


def room_of(module):
    """`upswitch.watch.rule` lies in `watch`; "" outside of upswitch."""
    first, _, rest = module.partition(".")
    return rest.partition(".")[0] if first == "upswitch" else ""


def may_act(path):
    place = path.removeprefix("src/upswitch/").removesuffix(".py")
    is_named = any(place == name or (name.endswith("/") and place.startswith(name)) for name in MAY_ACT)
    return is_named and place not in PURE and not place.endswith("__init__")


def imported(tree, *, is_typing_wanted=True):
    """Dotted names of everything imported anywhere, `from a import b` as both a and a.b."""
    unread = set() if is_typing_wanted else _typing_only(tree)
    names = set()
    for node in ast.walk(tree):
        if node in unread:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "no relative imports"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def _typing_only(tree):
    guarded = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)]
    return {below for node in guarded for below in ast.walk(node)}


def module_of(path):
    return path.removeprefix("src/").removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def functions(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def lines_of(function):
    first = function.body[0]
    told = first.end_lineno - first.lineno + 1 if ast.get_docstring(function) else 0
    return function.end_lineno - function.lineno + 1 - told


each_source = pytest.mark.parametrize("path", SOURCES)


def test_there_is_something_to_check():
    assert len(SOURCES) > 50
    assert "src/upswitch/switch/machine.py" in SOURCES


@pytest.mark.parametrize("path", SOURCES)
def test_a_room_imports_only_rooms_below_it(path):
    room = room_of(module_of(path))
    for name in imported(SOURCES[path]):
        below = room_of(name)
        if room in FLOOR and below in FLOOR and below != room:
            assert FLOOR[below] > FLOOR[room], f"{room} imports {name}, which is not below it"
        assert not (room in FLOOR and name.startswith("upswitch_lab")) or path == "src/upswitch/cli/commands/demo.py", name


def test_every_room_is_in_the_rule_and_few_files_lie_outside():
    rooms = {path.split("/")[2] for path in SOURCES if path.startswith("src/upswitch/")}
    assert {name for name in rooms if not name.endswith(".py")} == FLOOR.keys()
    assert len([name for name in rooms if name.endswith(".py") and not name.startswith("__")]) <= 3


@pytest.mark.parametrize("path", [path for path in SOURCES if path.startswith("src/upswitch/") and not may_act(path)])
def test_what_decides_imports_nothing_that_acts(path):
    names = imported(SOURCES[path])
    assert not {name.split(".")[0] for name in names} & EFFECTS
    acting = {module_of(other) for other in SOURCES if may_act(other)}
    assert not names & acting


@each_source
def test_a_file_is_one_noun_of_at_most_400_lines(path):
    assert (ROOT / path).read_text("utf-8").count("\n") <= 400


@each_source
def test_no_function_is_longer_than_a_screen_and_none_takes_more_than_four_parameters(path):
    for function in functions(SOURCES[path]):
        assert lines_of(function) <= 40, function.name
        positional = [arg for arg in (*function.args.posonlyargs, *function.args.args) if arg.arg not in {"self", "cls"}]
        assert len(positional) <= 4, function.name


@each_source
def test_nothing_is_left_to_do(path):
    assert not re.search(r"\b(TODO|FIXME|XXX)\b", (ROOT / path).read_text("utf-8"))


@pytest.mark.parametrize("path", [path for path in SOURCES if path != "src/upswitch/cli/program.py"])
def test_nothing_but_the_command_line_catches_broadly(path):
    for node in ast.walk(SOURCES[path]):
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None
            assert ast.unparse(node.type) not in {"Exception", "BaseException"}, node.lineno


def test_imports_make_no_cycle():
    modules = {module_of(path): path for path in SOURCES}
    edges = {
        module: {name for name in imported(SOURCES[path], is_typing_wanted=False) if name in modules and name != module}
        for module, path in modules.items()
    }
    packages = {module for module, path in modules.items() if path.endswith("/__init__.py")}
    done: set[str] = set()
    while ready := [module for module in edges.keys() - done if edges[module] - packages <= done]:
        done |= {*ready}
    assert {module: edges[module] - done for module in edges.keys() - done} == {}


@pytest.mark.parametrize("name", TESTS)
def test_tests_use_real_things_and_wait_for_conditions(name):
    text = TESTS[name]
    assert not [word for word in ("unittest." + "mock", "Magic" + "Mock", "monkeypatch") if word in text]
    assert not re.search(r"\btime\.sleep\(", text)


@pytest.mark.parametrize("name", [name for name in TESTS if name.startswith("test_")])
def test_a_tests_name_is_a_sentence(name):
    tests = [function.name for function in functions(ast.parse(TESTS[name])) if function.name.startswith("test_")]
    assert tests
    assert [test for test in tests if test.count("_") < 3] == []
