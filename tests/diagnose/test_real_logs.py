"""What `diagnose` says of logs as people have them (real_logs.toml): formats by default, foreign lines, prefixes, other systems.

Keys of an entry: `error`, `access` and `both` are files; `format` is given as --log-format; `crlf`: lines end as on Windows.
`codes`: one of them comes first; `finds`: all of them are found; `wrong`: none of these. `status`, `servers` and `says` are of the
first finding; `says_not` must not stand there. `hurt`: requests that reached clients, of all findings. `nothing`: nobody was hurt.
"""

import tomllib
from pathlib import Path

import pytest

from upswitch.cli.views.diagnose import diagnosed
from upswitch.diagnose.run import Wanted, of_files

LOGS = tomllib.loads(Path(__file__).with_name("real_logs.toml").read_text())["log"]
KEYS = {"name", "kind", "error", "access", "both", "format", "crlf", "codes", "finds", "wrong", "status", "status_is_none"}
KEYS |= {"servers", "says", "says_not", "hurt", "nothing"}


def read(log, folder):
    given = {"error_logs": "error", "access_logs": "access"}
    files = {}
    for option, key in given.items():
        text = log.get(key) or (log.get("both") if key == "error" else None)
        if text:
            path = folder / f"{key}.log"
            path.write_bytes(text.lstrip("\n").replace("\n", "\r\n" if log.get("crlf") else "\n").encode())
            files[option] = (f"{path}",)
    return of_files(Wanted(**files, log_format=log.get("format", "")), None)


def test_the_collection_is_large_and_has_no_misspelt_key():
    names = [log["name"] for log in LOGS]

    assert len(set(names)) == len(names) >= 60
    assert not [key for log in LOGS for key in log if key not in KEYS]
    assert all(log.get("nothing") or log["codes"] for log in LOGS)


@pytest.mark.parametrize("log", LOGS, ids=lambda log: log["name"])
def test_a_log_that_people_have_is_read_rightly(log, tmp_path):
    found = read(log, tmp_path)
    findings = found.diagnosis.findings
    told = [(each.code, each.count, each.clients, each.status, each.servers) for each in findings]

    if log.get("nothing"):
        assert not found.is_trouble, told
        return
    assert findings, found
    first = findings[0]
    text = diagnosed(found).text.partition("\nRead: ")[0]
    assert first.code in log["codes"], told
    assert first.status == log.get("status", first.status), told
    assert first.status is None or not log.get("status_is_none"), told
    assert set(log.get("servers", ())) <= set(first.servers), told
    assert not {each.code for each in findings} & set(log.get("wrong", ())), told
    assert set(log.get("finds", ())) <= {each.code for each in findings}, told
    assert sum(each.clients for each in findings) == log.get("hurt", sum(each.clients for each in findings)), told
    assert all(words in text for words in log.get("says", ())), text
    assert not any(words in text for words in log.get("says_not", ())), text
