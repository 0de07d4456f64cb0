"""The tables [[notify]] of a site file."""

import pytest

from upswitch.site.read import SiteInvalid, parse_site
from upswitch.site.telling import NOTHING_DONE, Event, Secret

POOLS = '[upstreams.app]\nA = ["127.0.0.1:8001"]\n'
NOTIFY = """
[[notify]]
template = "slack"
url = { file = "/etc/upswitch/slack.url" }

[[notify]]
template = "/etc/upswitch/mine.json.j2"
url = "https://chat.example/hook?token=x"
headers = { Authorization = { env = "TOKEN" }, X-Team = "ops" }
on = ["held", "stuck"]
timeout = "5s"
"""


def test_targets_are_read_with_their_secrets_places():
    slack, mine = parse_site(POOLS + NOTIFY).notify
    assert (slack.template, slack.url, slack.timeout) == ("slack", Secret(file="/etc/upswitch/slack.url"), 10.0)
    assert {*slack.on} == {*Event} - NOTHING_DONE
    assert mine.headers == (("Authorization", Secret(env="TOKEN")), ("X-Team", Secret(text="ops")))
    assert (mine.on, mine.timeout) == ((Event.HELD, Event.STUCK), 5.0)


@pytest.mark.parametrize(
    ("text", "key", "allowed"),
    [
        ('[[notify]]\ntemplate = "slack"\n', "notify[1].url", "must be a URL in quotes"),
        ('[[notify]]\nurl = "ftp://x/hunter2"\n', "notify[1].url", "must be an http:// or https:// URL"),
        ('[[notify]]\nurl = { file = "hunter2" }\n', "notify[1].url", "must be an absolute path"),
        ('[[notify]]\nurl = "http://x"\nwebhook = "hunter2"\n', "notify[1].webhook", "there is no such key"),
        ('[[notify]]\nurl = "http://x"\nheaders = { "a b" = "hunter2" }\n', "notify[1].headers", "must be a table of headers"),
        ('[[notify]]\nurl = "http://x"\nheaders = { a = "hunter2\\n" }\n', "notify[1].headers", "must be one line"),
        ('[[notify]]\nurl = "http://x"\non = ["pager"]\n', "notify[1].on", "must be one of switched, rolled_back, held"),
        ('[[notify]]\nurl = "http://x"\ntimeout = "5m"\n', "notify[1].timeout", "must be at most 30s"),
        ('[[notify]]\nurl = "http://x"\n[[notify]]\nurl = "http://x"\ntemplate = "A B"\n', "notify[2].template", "must be slack"),
        ('notify = "http://x/hunter2"\n', "notify", r"must be tables that begin with [[notify]]"),
    ],
)
def test_a_wrong_target_is_named_with_its_line_and_no_secret_is_shown(text, key, allowed):
    with pytest.raises(SiteInvalid) as caught:
        parse_site(text + POOLS)
    (problem,) = caught.value.problems
    assert problem.key == key
    assert allowed in problem.allowed
    assert problem.line > 0
    assert "hunter2" not in problem.text
    if key.startswith("notify[2]"):
        assert problem.line == 5


def test_broken_toml_in_a_target_shows_no_line():
    with pytest.raises(SiteInvalid) as caught:
        parse_site(f'{POOLS}[[notify]]\nurl = "https://chat.example/hunter2\n')
    assert "hunter2" not in str(caught.value)


def test_a_hook_is_a_program_by_its_absolute_path():
    hooks = parse_site(f'{POOLS}[hooks]\nheld = ["/usr/bin/page", "a b"]\ntimeout = "5s"\n').hooks
    assert (hooks.held, hooks.timeout) == (("/usr/bin/page", "a b"), 5.0)
    with pytest.raises(SiteInvalid, match="must begin with the absolute path of a program"):
        parse_site(f'{POOLS}[hooks]\nheld = ["page"]\n')
