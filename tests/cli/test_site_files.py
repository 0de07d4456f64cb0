"""Which site file a command reads, and that two sites may not share what each must have for itself."""

import os
from contextlib import chdir

import click
import pytest

from upswitch.cli import site_files
from upswitch.cli.site_files import NoSiteError, SeveralSitesError, SharedSiteError, SiteFile, chosen_site, find

APP = 'name = "{}"\n[upstreams.{}]\nA = ["127.0.0.1:1"]\nB = ["127.0.0.1:2"]\n'


@pytest.fixture
def folder(tmp_path):
    """A folder of site files in the place of /etc/upswitch, and an empty current folder beside it."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "here").mkdir()
    os.environ[site_files.VARIABLE] = str(tmp_path / "etc")
    with chdir(tmp_path / "here"):
        yield tmp_path
    del os.environ[site_files.VARIABLE]


def lay(path, name, upstream=""):
    path.write_text(APP.format(name, upstream or name))
    path.chmod(0o644)
    return str(path)


def test_the_first_of_the_five_places_that_is_there_is_read(folder):
    only = lay(folder / "etc/shop.toml", "shop")
    assert find("", "") == SiteFile(path=only)
    here, other = lay(folder / "here/upswitch.toml", "here"), lay(folder / "other.toml", "other")
    os.environ[site_files.VARIABLE] = other
    assert find("", "") == SiteFile(path=other, words=("-c", other), is_asked=True)
    os.environ[site_files.VARIABLE] = ""
    assert find("", "") == SiteFile(path=os.path.basename(here))
    os.environ[site_files.VARIABLE] = str(folder / "etc")
    assert find("", "shop") == SiteFile(path=only, words=("-s", "shop"), is_asked=True)
    assert find(other, "") == SiteFile(path=other, words=("-c", other), is_asked=True)
    with pytest.raises(click.UsageError, match="only one of them"):
        find(other, "shop")


def test_several_sites_without_a_choice_are_all_named_and_none_is_read(folder):
    paths = [lay(folder / f"etc/{name}.toml", name) for name in ("blog", "shop")]
    lay(folder / "etc/.shop.candidate.toml", "shop")
    with pytest.raises(SeveralSitesError) as several:
        chosen_site(find("", ""))
    assert str(several.value) == f"there are 2 sites here: blog ({paths[0]}), shop ({paths[1]})"
    assert chosen_site(find("", "blog")).name == "blog"


def test_a_site_is_found_by_the_name_in_its_file_too_and_an_unknown_one_is_refused_with_those_that_are_there(folder):
    path = lay(folder / "etc/upswitch.toml", "shop")
    assert find("", "shop").path == path
    with pytest.raises(click.BadParameter, match=r"there is no site blog: .*/etc has upswitch \("):
        find("", "blog")
    with pytest.raises(click.BadParameter, match="must be a name"):
        find("", "../shop")


@pytest.mark.parametrize("upstream", ["shop", "Shop"])
def test_a_site_that_shares_an_upstream_with_another_one_is_refused_and_both_files_are_named(folder, upstream):
    one = lay(folder / "etc/shop.toml", "shop")
    other = lay(folder / "mine.toml", "blog", upstream)
    with pytest.raises(SharedSiteError, match=rf"that of {one} share the upstream {upstream} of /etc/nginx/nginx.conf"):
        chosen_site(find(other, ""))
    lay(folder / "etc/broken.toml", "x/y")  # a file that can't be read stops no other site
    assert chosen_site(find("", "shop")).name == "shop"


def test_without_any_site_file_the_error_says_where_it_was_looked_for(folder):
    with pytest.raises(NoSiteError, match=f"No such file or directory, and {folder}/etc has no site file"):
        chosen_site(find("", ""))
    with pytest.raises(NoSiteError, match=r"^No such file or directory$"):
        chosen_site(find("none.toml", ""))
