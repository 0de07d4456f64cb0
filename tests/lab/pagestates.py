"""The states in which the console blocks of docs/ are run, as incidentstates.py has them for the incident pages."""

from pathlib import Path

from incidentstates import OnHost

CHECKED = "upstream app {\n    server 127.0.0.1:8001;\n    check interval=3000 rise=2 fall=5 timeout=1000 type=http;\n}\n"


def release(at: OnHost) -> None:
    """Nothing is wrong: the way of every release."""
    del at


def edited_by_taplo(at: OnHost) -> None:
    """The first line of the site file is the one that `init` writes."""
    text = at.lab.site_file.read_text()
    at.lab.site_file.write_text(f"#:schema ./upswitch.schema.json\n{text}")
    at.after.callback(at.lab.site_file.write_text, text)


def one_upstream(at: OnHost) -> None:
    """A part of a configuration, with lines of a check module."""
    Path(at.folder, "upstreamA.conf").write_text(CHECKED)


PAGE_STATES = {
    "debian#each-release": release,
    "site-file#in-an-editor": edited_by_taplo,
    "lint": release,
    "check-modules#how-long-would-it-be?": one_upstream,
}
