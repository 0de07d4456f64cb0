"""The JSON schema takes every site file that upswitch takes, and has every key that upswitch reads."""

import ast
import json
import re
import shutil
import subprocess
import tomllib

import jsonschema
import pytest

from sources import ROOT
from upswitch.site.read import SiteInvalid, parse_site
from upswitch.site.schema import schema

SCHEMA = schema()
VALID = jsonschema.Draft7Validator(SCHEMA)
POOLS = '[upstreams.app]\nA = ["127.0.0.1:8001"]\n'


def site_files():
    """Each text in docs, playbooks and tests that upswitch reads as a site file."""
    pages = [*ROOT.glob("docs/**/*.md"), *ROOT.glob("playbooks/**/*.md"), ROOT / "README.md"]
    texts = [text for page in pages for text in re.findall(r"```toml\n(.*?)```", page.read_text(), re.DOTALL)]
    texts += [
        path.read_text() for folder in ("docs", "playbooks", "templates", "tests") for path in ROOT.glob(f"{folder}/**/*.toml")
    ]
    programs = [path.read_text() for path in ROOT.glob("tests/**/*.py")]
    for program in (each for each in programs if "[upstreams." in each):
        nodes = ast.walk(ast.parse(program))
        texts += [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return [text for text in texts if "[upstreams." in text and is_site(text)]


def is_site(text):
    try:
        parse_site(text)
    except SiteInvalid:
        return False
    return True


def test_the_schema_is_one_and_takes_every_site_file_of_the_docs_and_tests():
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    found = site_files()
    assert len(found) > 10
    for text in found:
        assert [error.message for error in VALID.iter_errors(tomllib.loads(text))] == [], text


def keys_at(text):
    """The keys that upswitch has for the table in which `zzzz` stands."""
    with pytest.raises(SiteInvalid) as caught:
        parse_site(text)
    said = next(each.allowed for each in caught.value.problems if each.key.endswith("zzzz"))
    return set(re.search(r"the keys here are (.*)\)", said)[1].split(", "))


@pytest.mark.parametrize("table", ["nginx", "gate", "watch", "rollout", "deadman", "lint"])
def test_the_schema_has_every_key_of_a_table(table):
    assert keys_at(f"{POOLS}[{table}]\nzzzz = 1\n") == {*SCHEMA["properties"][table]["properties"]}


def test_the_schema_has_every_key_of_the_file_of_a_check_and_of_a_host():
    assert keys_at(f"zzzz = 1\n{POOLS}") == {*SCHEMA["properties"]}
    upstream = SCHEMA["properties"]["upstreams"]["additionalProperties"]
    assert keys_at(f"{POOLS}[upstreams.app.check]\nzzzz = 1\n") == {*upstream["properties"]["check"]["properties"]}
    host = SCHEMA["properties"]["hosts"]["additionalProperties"]["oneOf"][1]
    assert keys_at(f'{POOLS}[hosts.a]\nssh = "a"\nzzzz = 1\n') == {*host["properties"]}


WRONG = [
    "",
    f"{POOLS}[gate]\nraise = 2\n",
    f'{POOLS}[gate]\nrise = "2"\n',
    f"{POOLS}[gate]\ndeadline = 5\n",
    f'{POOLS}[gate]\ndeadline = "5 minutes"\n',
    f'{POOLS}[watch]\non_spike = "stop"\n',
    "[upstreams.app]\nA = []\n",
    f"{POOLS}[watch]\naccepts_elevated = true\n",
    f"{POOLS}[hosts]\na = {{}}\n",
]


@pytest.mark.parametrize("text", WRONG)
def test_the_schema_refuses_what_upswitch_refuses(text):
    assert not is_site(text)
    assert not VALID.is_valid(tomllib.loads(text))


def test_taplo_takes_it(tmp_path):
    taplo = shutil.which("taplo")
    if not taplo:
        pytest.skip("taplo is not here: `pipx install taplo` puts it on the PATH")
    (tmp_path / "upswitch.schema.json").write_text(json.dumps(SCHEMA))
    ran = {}
    for name, text in (("good", POOLS), ("bad", f"{POOLS}[gate]\nraise = 2\n")):
        (tmp_path / f"{name}.toml").write_text(f"#:schema ./upswitch.schema.json\n{text}")
        argv = (taplo, "check", f"{name}.toml")
        ran[name] = subprocess.run(argv, cwd=tmp_path, capture_output=True, timeout=60, check=False).returncode
    assert (ran["good"], ran["bad"] != 0) == (0, True)
