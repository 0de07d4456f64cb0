"""Our own requests through nginx are tried before the swap, and judged beside those of clients."""

import re

import pytest

from command import agree, upswitch
from upswitch_lab.conf import Layout
from upswitch_lab.lab import Lab

SECRET = "key=of-the-owner"
QUICK = Layout(site={"watch": {"duration": "5s"}})


def add_locations(lab: Lab, text: str) -> None:
    conf = lab.folder / "nginx.conf"
    conf.write_text(conf.read_text().replace("location / {", f"{text}\nlocation / {{", 1))
    lab.renew()


def set_probe(lab: Lab, path: str) -> None:
    """The path and query of watch.probe."""
    text = lab.site_file.read_text()
    lab.site_file.write_text(re.sub(rf'(probe = "http://{lab.place.public})[^"]*', lambda found: found[1] + path, text))


def test_a_probe_that_fails_already_is_refused_with_what_it_said_and_its_query_is_shown_nowhere(any_nginx):
    """A typo took back a good release, and a 401 counted as a success."""
    with Lab(any_nginx, QUICK) as lab:
        add_locations(lab, "location = /none { return 404; } location = /in { return 401; }")
        shown = []
        for path, said in {"/none": "status 404", "/in": "status 401"}.items():
            set_probe(lab, f"{path}?{SECRET}")
            answer = upswitch(lab, "switch", "--to", "B")
            assert (answer.exit, answer.json["why"]) == (3, "probe_failed"), answer
            assert said in answer.json["said"]
            agree(lab, answer, "A")
            shown += [answer, upswitch(lab, "plan", "--to", "B")]
        assert f"http://{lab.place.public}/in?(not shown)" in str(shown)
        accepted = upswitch(lab, "switch", "--to", "B", "--one-way")
        assert accepted.exit == 4, accepted  # judged as it was said
        assert "by upswitch itself to B failed (no answer, or none of 2xx and 3xx)" in accepted.json["said"]
        assert "status 401. It must be answered with 2xx or 3xx" in accepted.err
        assert (shown[-1].exit, [each["why"] for each in shown[-1].json["refusals"]]) == (3, ["probe_failed"])
        assert SECRET not in f"{shown} {accepted} {(lab.folder / 'state' / 'journal.jsonl').read_text()}"


@pytest.mark.parametrize(
    ("location", "verdict"),
    [
        ("", "keep"),
        ("location = /healthz { return 200; }", "unproven"),
        ("location = /healthz { access_log off; proxy_pass http://app; }", "unproven"),
        ("location = /healthz { deny all; }", "unproven"),
    ],
)
def test_without_a_probe_the_health_path_is_requested_where_the_log_shows_that_the_live_pool_answers_it(
    any_nginx, location, verdict
):
    layout = Layout(site={"watch": {"duration": "2s", "probe": None}}, servers_per_pool=1, workers=1)
    with Lab(any_nginx, layout) as lab:
        add_locations(lab, location)
        answer = upswitch(lab, "switch", "--to", "B")
        assert (answer.exit, answer.json["watch"]["verdict"]) == (0, verdict), answer
        told = f"watch.probe is not set. The watch requests http://{lab.place.public}/healthz itself, as A answers it."
        assert (told in answer.err) is (told in str(answer.json["watch"]["notes"])) is (verdict == "keep")
        assert answer.json["watch"]["total"] == 0, "our own requests are not those of clients"
