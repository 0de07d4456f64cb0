"""What `sites` prints."""

import click

from upswitch.cli.exit_codes import Exit
from upswitch.cli.site_files import SharedSiteError
from upswitch.cli.views import acted, fleet
from upswitch.cli.views.sites import sites
from upswitch.cli.views.status import StatusView
from upswitch.generations.generation import Live
from upswitch.site.model import Problem
from upswitch.site.read import SiteInvalid

PROVED = Live(disk="000002-B", running="000002-B", pool="B")
SPLIT = Live(disk="000002-B", running="000001-A", pool="B")
HELD_DOWN = Live(disk="000002-B", running="000002-B", pool="B", held_down=("app",))


def serving(live):
    return StatusView(
        command="sites",
        exit=Exit.DONE if live.serves else Exit.FINDINGS,
        production=live,
        generations=(),
        edited=(),
        master=0,
        workers=0,
        draining=(),
        unfinished="",
        lock="",
        findings=(),
    )


def test_each_site_is_a_row_with_what_it_serves():
    view = sites([("/etc/upswitch/blog.toml", ("blog", serving(PROVED))), ("/etc/upswitch/shop.toml", ("shop", serving(PROVED)))])
    assert (view.exit, len(view.sites)) == (0, 2)
    assert view.text.splitlines() == [
        "SITE  SERVES  GENERATION  FILE",
        "blog  B       000002-B    /etc/upswitch/blog.toml",
        "shop  B       000002-B    /etc/upswitch/shop.toml",
    ]


def test_what_is_not_proved_stands_below_its_site_and_is_exit_3():
    shared = acted.ended("sites", SharedSiteError("this site and that of /x share the folder /y"), None, file="/e/shop.toml")
    hosts = fleet.together("sites", {"lb1": serving(PROVED), "lb2": serving(SPLIT)})
    view = sites([("/e/blog.toml", ("blog", hosts)), ("/e/shop.toml", ("shop", shared))])
    assert view.exit == Exit.FINDINGS
    assert view.text.splitlines() == [
        "SITE  HOST  SERVES  GENERATION  FILE",
        "blog  lb1   B       000002-B    /e/blog.toml",
        "blog  lb2   B       000001-A    /e/blog.toml",
        f"    {SPLIT.text}",
        "shop        ?       ?           /e/shop.toml",
        "    /e/shop.toml: this site and that of /x share the folder /y",
    ]


def test_a_pool_that_nginx_itself_holds_down_is_nowhere_said_to_serve():
    view = sites([("/e/blog.toml", ("blog", serving(HELD_DOWN)))])
    assert (view.exit, view.sites[0].proved) == (Exit.FINDINGS, True)
    assert view.text.splitlines()[2:] == [f"    {HELD_DOWN.text}"]
    assert HELD_DOWN.text.startswith(
        "B is live, but nginx's own health check holds every server of app down: nginx reports generation 000002-B"
    )
    hosts = fleet.together("status", {"lb1": serving(PROVED), "lb2": serving(HELD_DOWN)})
    assert hosts.said == "B serves on lb1; B is live, but FAILS on lb2"


def test_every_problem_of_a_site_file_is_in_its_row():
    invalid = SiteInvalid((Problem(key="a", value="1", allowed="x"), Problem(key="b", value="2", allowed="y")))
    view = sites([("/e/shop.toml", ("shop", acted.ended("sites", invalid, None, file="/e/shop.toml")))])
    assert view.sites[0].problem == "/e/shop.toml: 2 problems; a = 1: x; b = 2: y"


def test_without_a_site_file_it_says_how_to_make_one():
    assert "upswitch init" in click.unstyle(sites([]).text)
