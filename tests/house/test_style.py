"""The house rules that a program can check."""

import ast
import re
from functools import cache

from sources import ROOT, sources

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
    ("logs", "sources"),
    ("nginx",),
    ("hosts",),
    ("site",),
    ("basics",),
)
"""Top down: a room imports those below it, never those above or beside it."""
FLOOR = {name: number for number, names in enumerate(ROOMS) for name in names}
MAY_ACT = (
    *("__main__", "cli/", "hosts/"),
    *("fleet/__init__", "fleet/going_back", "fleet/switching"),
    *("diagnose/host", "diagnose/listener", "diagnose/run"),
    *("generations/limited", "generations/store", "generations/survey", "generations/templates"),
    *("health/prober", "health/rounds", "health/compare"),
    *(
        "init/add_log",
        "init/apply",
        "init/bound",
        "init/change",
        "init/found",
        "init/leave",
        "init/propose",
        "lint/files",
        "lint/lint",
    ),
    *(
        "logs/since",
        "logs/source",
        "sources/here",
        "sources/registry",
        "sources/resolver",
        "sources/there",
        "nginx/log_target",
        "nginx/running",
    ),
    *("switch/candidate", "switch/deadman", "switch/drained", "switch/drive", "switch/job", "switch/journal", "switch/plan"),
    *("switch/preflight", "switch/record", "switch/reload", "switch/repair", "switch/rollback", "switch/session", "switch/steps"),
    *("switch/sourced", "switch/switch", "switch/warm", "switch/way_back"),
    *(
        "watch/error_log",
        "watch/hang",
        "watch/live",
        "watch/logs",
        "watch/recent",
        "watch/recorder",
        "watch/replay",
        "watch/through",
        "watch/tried",
    ),
    "watch/watch",
)
"""The modules that may act on the world: by a library of EFFECTS, or through a Host. Everything else only decides."""
PURE = ("hosts/count_program", "hosts/host", "hosts/sh")
"""What decides in a room that may act."""


@cache
def texts_of_tests():
    """Path -> text of every other file of tests."""
    paths = [path for path in sorted(ROOT.glob("tests/**/*.py")) if path.name != "test_style.py"]
    return {path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in paths}


def room_of(module):
    """`upswitch.watch.rule` lies in `watch`; "" outside of upswitch."""
    first, _, rest = module.partition(".")
    return rest.partition(".")[0] if first == "upswitch" else ""


def may_import(path, name):
    room, below = room_of(module_of(path)), room_of(name)
    if room in FLOOR and name.startswith("upswitch_lab"):
        return path == "src/upswitch/cli/commands/demo.py"
    return room not in FLOOR or below not in FLOOR or below == room or FLOOR[below] > FLOOR[room]


def place_of(path):
    return path.removeprefix("src/upswitch/").removesuffix(".py")


def may_act(path):
    place = place_of(path)
    rooms = tuple(name for name in MAY_ACT if name.endswith("/")) if not place.endswith("__init__") else ()
    return (place in MAY_ACT or place.startswith(rooms)) and place not in PURE


@cache
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
    docstring = first.end_lineno - first.lineno + 1 if ast.get_docstring(function) else 0
    return function.end_lineno - function.lineno + 1 - docstring


def positional_of(function):
    parameters = (*function.args.posonlyargs, *function.args.args)
    return [each for each in parameters if each.arg not in {"self", "cls"}]


def test_there_is_something_to_check():
    assert len(sources()) > 50
    assert "src/upswitch/switch/machine.py" in sources()


def test_a_room_imports_only_rooms_below_it():
    assert [
        f"{path} imports {name}, which is not below it"
        for path, tree in sources().items()
        for name in imported(tree)
        if not may_import(path, name)
    ] == []


def test_every_room_is_in_the_rule_and_few_files_lie_outside():
    rooms = {path.split("/")[2] for path in sources() if path.startswith("src/upswitch/")}
    assert {name for name in rooms if not name.endswith(".py")} == FLOOR.keys()
    assert len([name for name in rooms if name.endswith(".py") and not name.startswith("__")]) <= 3


def test_what_decides_imports_nothing_that_acts():
    acting = {module_of(path) for path in sources() if may_act(path)}
    deciding = [path for path in sources() if path.startswith("src/upswitch/") and not may_act(path)]
    assert [
        f"{path} imports {name}"
        for path in deciding
        for name in sorted(imported(sources()[path]))
        if name in acting or name.partition(".")[0] in EFFECTS
    ] == []


def test_every_name_in_the_lists_of_acting_and_pure_modules_is_a_module():
    places = {place_of(path) for path in sources()}
    assert [name for name in (*MAY_ACT, *PURE) if not any(place == name or place.startswith(name) for place in places)] == []


def test_a_file_is_one_noun_of_at_most_400_lines():
    lengths = {path: (ROOT / path).read_text("utf-8").count("\n") for path in sources()}
    assert {path: length for path, length in lengths.items() if length > 400} == {}


def test_no_function_is_longer_than_a_screen_and_none_takes_more_than_four_positional_parameters():
    every = [(path, function) for path, tree in sources().items() for function in functions(tree)]
    assert [f"{path}:{each.lineno} {each.name}: {lines_of(each)} lines" for path, each in every if lines_of(each) > 40] == []
    assert [f"{path}:{each.lineno} {each.name}" for path, each in every if len(positional_of(each)) > 4] == []


def test_nothing_is_left_to_do():
    assert [path for path in sources() if re.search(r"\b(TODO|FIXME|XXX)\b", (ROOT / path).read_text("utf-8"))] == []


def test_nothing_but_the_command_line_catches_broadly():
    broad = {"None", "Exception", "BaseException"}
    assert [
        f"{path}:{node.lineno}"
        for path, tree in sources().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler) and path != "src/upswitch/cli/program.py"
        if (ast.unparse(node.type) if node.type else "None") in broad
    ] == []


def test_imports_make_no_cycle():
    modules = {module_of(path): path for path in sources()}
    edges = {
        module: {name for name in imported(sources()[path], is_typing_wanted=False) if name in modules and name != module}
        for module, path in modules.items()
    }
    packages = {module for module, path in modules.items() if path.endswith("/__init__.py")}
    done: set[str] = set()
    while ready := [module for module in edges.keys() - done if edges[module] - packages <= done]:
        done |= {*ready}
    assert {module: edges[module] - done for module in edges.keys() - done} == {}


def test_tests_use_real_things_and_wait_for_conditions():
    unreal = re.compile("unittest" + r"\.mock|Magic" + r"Mock|monkeypatch|\btime\.sleep\(")
    assert [f"{path}: {found[0]}" for path, text in texts_of_tests().items() if (found := unreal.search(text))] == []


def test_a_tests_name_is_a_sentence():
    for path, text in texts_of_tests().items():
        if not path.rpartition("/")[2].startswith("test_"):
            continue
        names = re.findall(r"^ *def (test_\w+)", text, re.MULTILINE)
        assert names, path
        assert [f"{path}: {name}" for name in names if name.count("_") < 3] == []


def test_the_import_rule_on_the_page_of_the_code_is_this_one():
    rule = (ROOT / "docs" / "code.md").read_text().split("```\n")[3]
    assert tuple(tuple(line.split(" | ")) for line in rule.splitlines()) == ROOMS
