"""Every console block of a page is run where its incident really happened, and shows what the page promises.

How a page is read: incidentpages.py. A page's commands have done their work when production is proved at the end.
"""

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from command import served_by
from fleetlab import FleetLab
from incidentfleet import FLEET_STATES, LONG, SHORT, OnFleet, desert, somebody_in_between
from incidentpages import FOLDER, put_on_path, sections, slug
from incidentstates import SITE, STATES, OnHost
from pagestates import PAGE_STATES
from skips import NONE_HERE
from sshd import needs_sshd
from upswitch.generations import survey
from upswitch.hosts.clock import SystemClock
from upswitch.hosts.local.host import LocalHost
from upswitch.switch.journal import journal_of
from upswitch.switch.run import unfinished
from upswitch_lab.conf import Layout
from upswitch_lab.find import find_nginx
from upswitch_lab.lab import Lab

INDEX = FOLDER / "README.md"
ONE_NGINX = [pytest.param(path, id=version) for version, path in find_nginx()[-1:]] or [NONE_HERE]


class Shared:
    """One laboratory for all pages: what a page has put right is fit for the next incident. After a failure a new one."""

    def __init__(self, binary: str) -> None:
        self._binary = binary
        self._open = ExitStack()
        self._lab: Lab | None = None

    @contextmanager
    def lab(self) -> Iterator[Lab]:
        lab, self._lab = self._lab or self._new(), None
        yield lab
        self._lab = lab

    def _new(self) -> Lab:
        self.close()
        lab = self._open.enter_context(Lab(self._binary, Layout(site=SITE)))
        put_on_path(lab.folder, "nginx", lab.place.binary, f"-p {lab.folder} -c {lab.place.conf} -e stderr")
        return lab

    def close(self) -> None:
        self._open.close()


@pytest.fixture(scope="module", params=ONE_NGINX)
def shared(request) -> Iterator[Shared]:
    shared = Shared(request.param)
    yield shared
    shared.close()


@pytest.fixture(scope="module", params=ONE_NGINX)
def fleets(request) -> Iterator[dict[str, FleetLab]]:
    """By page. One fleet is deserted first of all: it goes back by itself while the other pages are read at the other."""
    with FleetLab(request.param, 2, LONG) as deserted, FleetLab(request.param, 2, SHORT) as fleet:
        desert(deserted)
        yield {**dict.fromkeys(FLEET_STATES, fleet), "dead-man": deserted}


@pytest.mark.parametrize("name", STATES | PAGE_STATES)
def test_every_command_of_the_page_does_what_the_page_promises(shared, name):
    with shared.lab() as lab:
        incident = OnHost(lab)
        with incident.after:
            (STATES | PAGE_STATES)[name](incident)
            incident.follow(name)
        assert_sound(lab)


@needs_sshd
@pytest.mark.parametrize("name", FLEET_STATES)
def test_every_command_of_a_page_on_fleets_does_what_the_page_promises(fleets, name):
    incident = OnFleet(fleets[name])
    with incident.after:
        FLEET_STATES[name](incident)
        incident.follow(name)
    for lab in fleets[name].labs.values():
        assert_sound(lab)
    assert len(set(fleets[name].served.values())) == 1


@needs_sshd
def test_a_key_that_is_not_the_hosts_stops_the_page_before_the_recorded_line_is_dropped(fleets):
    incident = OnFleet(fleets["host-key"])
    known_hosts = incident.sshd.known_hosts
    recorded = known_hosts.read_text()
    somebody_in_between(incident)
    try:
        with pytest.raises(AssertionError, match=r"^ssh-keygen -lf new-key \| grep"):
            incident.follow("host-key")
        assert known_hosts.read_text() == recorded
    finally:
        known_hosts.write_text(incident.sshd.host_key_line)


def assert_sound(lab: Lab) -> None:
    """What `upswitch status` would say, without a process for it: production is proved, and no run is unfinished."""
    host, nginx = LocalHost(SystemClock()), lab.site.nginx
    live = survey.live_now(host, nginx)
    assert live.agrees, live
    assert {server[0] for server in served_by(lab)} == {live.pool}
    assert unfinished(journal_of(host, nginx).read()) is None


def test_every_section_with_commands_has_its_incident():
    assert set(sections()) == {*STATES, *PAGE_STATES, *FLEET_STATES}


def test_every_page_is_in_the_index():
    pages = {path.name for path in FOLDER.glob("*.md")} - {INDEX.name}
    assert set(re.findall(r"\]\(([\w-]+\.md)\)", INDEX.read_text())) == pages


@pytest.mark.parametrize("page", sorted(FOLDER.glob("*.md")), ids=lambda page: page.stem)
def test_every_link_to_a_section_leads_to_one(page):
    for target, anchor in re.findall(r"\]\(([\w-]*(?:\.md)?)#([\w-]+)\)", page.read_text()):
        text = (FOLDER / target if target else page).read_text()
        assert anchor in {slug(line) for line in text.splitlines() if line.startswith("## ")}, anchor
