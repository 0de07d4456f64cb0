"""The page of a report: complete, safe whatever others wrote, and readable in a real browser, on paper and on a phone."""

import re
from html.parser import HTMLParser

import pytest
from msgspec.structs import replace

import browser
from reportparts import BEGAN, SWITCHED, record, run, steps, view
from upswitch.basics.result import Result, Why
from upswitch.cli.report.page import kind_of, page, runs_page
from upswitch.cli.report.plots import Mark, plots
from upswitch.switch.machine import Outcome, Phase, Step
from upswitch.switch.run import Fired

HOSTILE = '</style></svg></pre>--><script>alert(1)</script><img src=x onerror="alert(1)">{{ 7*7 }}{% raw %}" onload="x\u202e'
KNOWN = {
    *("html", "head", "meta", "title", "style", "body", "h1", "h2", "h3", "p", "span", "b", "i", "strong", "code", "pre", "br"),
    *("dl", "dt", "dd", "ul", "li", "table", "thead", "tbody", "tr", "th", "td", "section", "div", "figure", "details", "summary"),
    *("footer", "header", "svg", "g", "path", "line", "text", "circle"),
}


class Elements(HTMLParser):
    """The names of a page's elements and attributes, and what its links lead to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.attributes, self.words = set[str](), set[str](), list[str]()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data):
        self.words.append(data)

    @property
    def said(self) -> str:
        return " ".join(" ".join(self.words).split())


def whole(**changes: object):
    return Elements(page({"": replace(view(run(), record(failed=50)), **changes)}, {}))


def test_a_page_has_all_of_a_run():
    said = whole().said
    for words in (
        "SWITCHED",
        "To B (generation 000002-B), from A",
        "ada",
        "release 7",
        "2026-12-01 12:00:00 UTC",
        "confirm said so",
    ):
        assert words in said
    for title in ("Requests per second", "Failures per second", "Time that requests took", "The rule for a rollback"):
        assert title in said
    for title in ("Causes of failures", "Health checks before the switch", "Steps", "Changed files"):
        assert title in said
    assert "500 of 1000 (50.0%)" in said
    assert "- server 10.0.0.1:80;" in said
    assert {"gate", "switch"} <= {*said.split()}


def test_nothing_that_others_wrote_becomes_html_or_a_template():
    made = run(user=HOSTILE, reason=HOSTILE, pool="B")
    made = replace(made, closed=replace(made.closed, said=HOSTILE), steps=(replace(SWITCHED[0], said=HOSTILE, details=(HOSTILE,)),))
    kept = record(failed=9, diff=f"+{HOSTILE}\n", evidence=HOSTILE)
    kept = replace(kept, notes=(HOSTILE,), gate=tuple(replace(each, said=HOSTILE, pool=HOSTILE) for each in kept.gate))
    kept = replace(kept, seen=replace(kept.seen, segments=tuple(replace(each, pool=HOSTILE) for each in kept.seen.segments)))
    text = page({HOSTILE: replace(view(made, kept), site=HOSTILE)}, {HOSTILE: HOSTILE})
    found = Elements(text)
    assert found.tags <= KNOWN
    assert not {name for name in found.attributes if name.startswith("on") or name in {"src", "href"}}
    assert "{{ 7*7 }}" in found.said
    assert "\u202e" not in text
    assert Elements(runs_page({HOSTILE: (made,)}, HOSTILE)).tags <= KNOWN


def test_a_page_needs_no_network_and_runs_no_script():
    text = page({"": view(run(), record(failed=9))}, {})
    assert "default-src &#39;none&#39;" in text or "default-src 'none'" in text
    assert not re.search(r"url\(|@import|<script|<link|href=|src=", text)
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "").replace("http-equiv", "")
    assert len(text) < 200_000


@pytest.mark.parametrize(
    ("made", "kind", "words"),
    [
        (run(), "good", "SWITCHED"),
        (run(outcome=Outcome.UNCHANGED), "good", "UNCHANGED"),
        (run(Phase.ROLLED_BACK, outcome=Outcome.ROLLED_BACK), "warn", "ROLLED BACK"),
        (run(Phase.HELD, outcome=Outcome.HELD), "warn", "HELD"),
        (
            run(Phase.REFUSED, steps((Step.GATE, Result.FAILED, 5.0), why=Why.SERVERS_DOWN), outcome=Outcome.REFUSED),
            "warn",
            "REFUSED",
        ),
        (run(Phase.STUCK, outcome=Outcome.STUCK), "bad", "STUCK"),
        (run(Phase.SWAPPED, SWITCHED[:3], outcome=None), "bad", "UNFINISHED"),
        (run(Phase.PLANNED, (), outcome=None), "bad", "UNFINISHED"),
        (run(command="rollback", copy_of="000001-A"), "good", "SWITCHED"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_every_ending_has_a_page_with_and_without_what_it_kept(made, kind, words):
    assert kind_of(made) == kind
    for kept in (record(), replace(record(), seen=None, gate=()), "this run kept none"):
        text = page({"": view(made, kept)}, {})
        assert f'<span class="badge {kind}">{words}</span>' in text
        assert ("this run kept none" in text) is isinstance(kept, str)


def test_a_host_that_rolled_itself_back_says_so_before_any_command_has_recorded_it():
    fired = Fired(run=run().plan.run, result=Result.OK, live="000003-A", said="it is proved", at=BEGAN.isoformat())
    text = page({"": view(replace(run(Phase.ROLLED_BACK, SWITCHED[:5], outcome=None), fired=fired), "none")}, {})
    assert "the host rolled itself back" in text
    assert "ROLLED BACK" in text


def test_a_run_that_somebody_works_on_now_is_no_cut_off_one():
    under_way = replace(view(run(Phase.CONFIRMED, SWITCHED[:5], outcome=None), "none"), holder="ada@ci (pid 7)")
    said = Elements(page({"": under_way}, {})).said
    assert "UNDER WAY After the step confirm, by ada@ci (pid 7)" in said
    assert "repair" not in said


def test_a_fleet_is_one_page_whose_headline_is_the_worst_host():
    stuck = view(run(Phase.STUCK, outcome=Outcome.STUCK))
    earlier = view(run(run="20251201T120000-abcdef"))
    said = Elements(page({"lb1": view(), "lb2": stuck, "lb3": earlier}, {"lb4": "UNREACHABLE: no route"})).said
    assert "STUCK lb2: To B" in said
    assert re.search(r"lb3 no data took no part; its run is 20251201T120000-abcdef", said)
    assert "lb4 no data UNREACHABLE: no route" in said


def test_the_list_of_runs_has_each_with_the_number_to_ask_for():
    said = Elements(runs_page({"": (run(), run(Phase.SWAPPED, SWITCHED[:3], outcome=None))}, "shop")).said
    assert "Runs of shop" in said
    assert "000002-B SWITCHED 2026-12-01 12:00:00 UTC 34.0 s switch A to B ada release 7 To B" in said
    assert "UNFINISHED" in said
    assert "No run yet." in Elements(runs_page({"": ()}, "shop")).said


@pytest.mark.parametrize("failed", [0, 1, 100])
@pytest.mark.parametrize("times", [1, 1000])
def test_a_plot_takes_any_numbers(failed, times):
    seen = record(failed=failed).seen
    many = tuple(replace(each, total=tuple(count * times for count in each.total)) for each in seen.segments)
    for plot in plots(replace(seen, segments=many), (Mark(at_s=-500, label="gate"), Mark(at_s=0, label=""))):
        assert {"wide", "narrow"} == plot.svgs.keys()
    assert plots(replace(seen, segments=(), latency=()), ()) == ()


def test_labels_of_marks_that_are_close_stand_in_rows_and_inside_of_the_plot():
    marks = [Mark(at_s=at, label=label) for at, label in ((-1, "gate"), (0, "switch"), (0.1, "third"), (30, "way back"))]
    svg = plots(record().seen, marks)[0].svgs["narrow"]
    labels = re.findall(r'<text x="([\d.]+)" y="(-\d+)" class="mark-label">([^<]+)', svg)
    assert [(label, row) for _, row, label in labels] == [("gate", "-5"), ("switch", "-19"), ("third", "-33"), ("way back", "-5")]
    assert all(float(x) < 340 for x, _, _ in labels)


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A long page and the list, as files; a script in a copy of each tells how wide it is."""
    if not browser.is_here():
        pytest.skip(browser.REASON)
    folder = tmp_path_factory.mktemp("pages")
    made = run(
        Phase.ROLLED_BACK, (*SWITCHED[:-2], *steps((Step.WATCH, Result.FAILED, 30.0), why=Why.SPIKE)), outcome=Outcome.ROLLED_BACK
    )
    diff = record().diff + "+" + "a-long-word-without-a-space" * 20 + "\n"
    kept = record(failed=60, diff=diff, evidence="x" * 600)
    texts = {"run": page({"": view(made, kept)}, {}), "runs": runs_page({"": (made,) * 9}, "shop")}
    script = "<script>document.body.dataset.wide = document.documentElement.scrollWidth</script>"
    for name, text in texts.items():
        (folder / f"{name}.html").write_text(text)
        measured = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text).replace("</body>", f"{script}</body>")
        (folder / f"{name}-measured.html").write_text(measured)
    return folder


@pytest.mark.parametrize("width", [400, 1200])
@pytest.mark.parametrize("name", ["run", "runs"])
def test_no_page_is_wider_than_the_window(pages, name, width):
    wide = re.search(r'data-wide="(\d+)"', browser.elements(pages / f"{name}-measured.html", width=width))
    assert int(wide[1]) <= width


def test_the_page_is_light_or_dark_as_the_reader_has_it(pages):
    light, dark = (
        browser.picture(pages / "run.html", pages / f"{is_dark}.png", width=1200, is_dark=is_dark) for is_dark in (False, True)
    )
    assert light != dark


def test_a_run_prints_on_two_sheets_of_a4(pages):
    sheets = browser.sheets(pages / "run.html")
    assert len(sheets) <= 2
    assert "ROLLED BACK" in sheets[0]
    assert "Changed files" in sheets[-1]
