"""Notices, as real HTTP servers get them: one is slow, one fails, one refuses the connection."""

import json

import pytest

from inbox import inbox
from upswitch.basics.errors import HostError, LockedError, Owner, StuckError
from upswitch.cli.notify import Sending, made, values_of
from upswitch.cli.open import Wiring
from upswitch.cli.program import Program
from upswitch.cli.views import fleet
from upswitch.cli.views.acted import ended
from upswitch.hosts.clock import SystemClock
from upswitch.site.model import Gate, Nginx, Site, Watch
from upswitch.site.telling import Notice, Secret
from upswitch_lab.process import free_port

HOSTILE = 'nginx says "\\ \n<!channel> @all `x` </script> {{ 7*7 }} \x1b[31m ] } é'
STUCK = ended("switch", StuckError(HOSTILE, undone="no"), None)
PACKAGED = ("generic", "slack", "mattermost", "teams", "grafana", "datadog")


def site(*notices):
    return Site(nginx=Nginx(), upstreams=(), gate=Gate(), watch=Watch(), name="shop", notify=notices)


def notice(url, **given):
    return Notice(url=Secret(text=url), **{"timeout": 5.0, **given})


def sent(*notices, view=STUCK):
    return Sending(site(*notices), view, SystemClock()).failures()


@pytest.mark.parametrize("template", PACKAGED)
@pytest.mark.parametrize("view", [STUCK, fleet.together("switch", {"lb1": STUCK})], ids=["one", "fleet"])
def test_each_template_makes_json_of_hostile_words(template, view):
    body = made(Notice(url=Secret(), template=template), values_of(site(), view, SystemClock()))
    text = json.dumps(json.loads(body))
    assert "STUCK" in text or "stuck" in text
    assert template == "generic" or "\\u001b" not in text


def test_slack_gets_no_mention_and_mattermost_no_end_of_its_code_block():
    values = values_of(site(), STUCK, SystemClock())
    slack = json.loads(made(Notice(url=Secret(), template="slack"), values))
    assert "&lt;!channel&gt;" in slack["attachments"][0]["text"]
    assert slack["attachments"][0]["color"] == "#e01e5a"
    mattermost = json.loads(made(Notice(url=Secret(), template="mattermost"), values))["text"]
    assert mattermost.count("`") == 6


def test_one_slow_one_failing_and_one_refusing_target_delay_no_other_and_show_no_secret(capfd):
    refusing = f"http://127.0.0.1:{free_port('127.0.0.1')}/T0/SECRET"
    with inbox() as good, inbox(is_silent=True) as slow, inbox(500) as failing:
        targets = [good.url, slow.url, failing.url, refusing]
        told = site(*(notice(url, timeout=3.0, template="slack") for url in targets))
        code = Program(Wiring())._told(told, STUCK, as_json=False)
        out = capfd.readouterr()
    assert code == 5
    assert len(good.bodies) == len(slow.bodies) == 1
    lines = [line.strip() for line in out.out.splitlines() if "NOTICE NOT SENT" in line]
    assert [line.partition(" (slack): ")[2].partition(", after ")[0] for line in lines] == [
        "no answer in time",
        "the answer is HTTP 500",
        "the connection failed ([Errno 111] Connection refused)",
    ]
    assert [line.partition("[")[2][0] for line in lines] == ["2", "3", "4"]
    assert "SECRET" not in out.out + out.err


def test_json_is_one_object_that_names_the_notices_that_were_not_sent(capfd):
    with inbox(404) as failing:
        code = Program(Wiring())._told(site(notice(failing.url)), STUCK, as_json=True)
    found = json.loads(capfd.readouterr().out)
    assert (code, found["exit"], found["outcome"]) == (5, 5, "STUCK")
    assert found["notices"] == ["NOTICE NOT SENT: notify[1] (generic): the answer is HTTP 404"]
    assert len(failing.bodies) == 1


def test_a_server_that_fails_once_gets_the_notice_again():
    with inbox(503, 200) as failing:
        assert sent(notice(failing.url)) == ()
    assert len(failing.bodies) == 2


def test_url_and_header_come_from_a_file_and_the_result_is_in_the_body(tmp_path):
    with inbox() as good:
        (tmp_path / "url").write_text(f"{good.url}\n")
        (tmp_path / "key").write_text("Bearer KEY\n")
        target = Notice(url=Secret(file=f"{tmp_path}/url"), headers=(("Authorization", Secret(file=f"{tmp_path}/key")),))
        assert sent(target) == ()
    assert good.paths == ["/T0/SECRET"]
    assert good.headers[0]["authorization"] == "Bearer KEY"
    body = json.loads(good.bodies[0])
    assert (body["site"], body["outcome"], body["severity"], body["result"]["exit"]) == ("shop", "STUCK", "critical", 5)


@pytest.mark.parametrize(
    ("secret", "why"),
    [
        (Secret(env="UPSWITCH_TEST_NOT_SET"), "the environment variable UPSWITCH_TEST_NOT_SET is not set"),
        (Secret(file="/nowhere/url"), "/nowhere/url can't be read: No such file or directory"),
        (Secret(text="SECRET"), "the URL is not valid"),
    ],
)
def test_a_url_that_can_not_be_had_is_one_line(secret, why):
    (line,) = sent(Notice(url=secret))
    assert f"NOTICE NOT SENT: notify[1] (generic): {why}" in line
    assert "SECRET" not in line


def test_a_secret_with_a_newline_is_not_shown(tmp_path):
    (tmp_path / "key").write_text("one SECRET\ntwo")
    with inbox() as good:
        (line,) = sent(notice(good.url, headers=(("x-key", Secret(file=f"{tmp_path}/key")),)))
    assert "the request failed (" in line
    assert "SECRET" not in line


def test_an_own_template_must_make_json_and_belong_to_the_owner(tmp_path):
    path = tmp_path / "own.json.j2"
    path.write_text('{"hello": {{ said|tojson }} ')
    with inbox() as good:
        assert "the template makes no JSON" in sent(notice(good.url, template=str(path)))[0]
        path.write_text('{"hello": {{ outcome|tojson }} }')
        assert sent(notice(good.url, template=str(path))) == ()
        path.chmod(0o666)
        assert "every user may write it" in sent(notice(good.url, template=str(path)))[0]
        path.chmod(0o644)
        path.write_text("{{ ''.__class__.__mro__ }}")
        assert "the template can't be used" in sent(notice(good.url, template=str(path)))[0]
    assert [json.loads(body) for body in good.bodies] == [{"hello": "STUCK"}]


def test_a_notice_is_sent_only_for_the_endings_that_it_names():
    owner = Owner(user="ann", host="ci", pid=7, since="now", reason="release 7")
    locked = ended("switch", LockedError(owner), None)
    unreachable = fleet.together("switch", {"web1": fleet.unreachable("switch", HostError("connect", "no route"))})
    with inbox() as good:
        assert sent(notice(good.url), view=locked) == ()
        assert sent(notice(good.url, on=("held",)), view=STUCK) == ()
        assert sent(notice(good.url), view=unreachable) == ()
        assert (
            Program(Wiring())._told(site(notice(good.url)), ended("status", StuckError("x", undone="no"), None), as_json=True) == 5
        )
    assert [json.loads(body)["outcome"] for body in good.bodies] == ["UNREACHABLE"]
