"""Several sites on one nginx: each is adopted, switched, watched and rolled back by itself."""

import pytest

from twosites import two_sites


def proved(answer, pool):
    assert answer.exit == 0, answer
    assert (answer.json["production"]["pool"], answer.json["production"]["proved"]) == (pool, True), answer


@pytest.mark.every_nginx
@pytest.mark.parametrize("http", ["", "keepalive_min_timeout 2s;"], ids=["", "the owner's own line"])
def test_a_second_application_becomes_a_site_of_its_own(any_nginx, tmp_path, http):
    with two_sites(any_nginx, tmp_path) as sites:
        if http:
            sites.conf.write_text(sites.conf.read_text().replace("# more", http))
            if sites.test().returncode:
                pytest.skip("this nginx has no keepalive_min_timeout")
            sites.reload()
        sites.adopt()
        shop, blog = sites.apps
        for app in sites.apps:
            proved(sites.on(app, "status"), "A")
        assert shop.marker != blog.marker
        proved(sites.on(shop, "switch", "--to", "B"), "B")
        proved(sites.on(blog, "status"), "A")
        proved(sites.on(blog, "switch", "--to", "B"), "B")
        proved(sites.on(shop, "rollback"), "A")
        assert (shop.serves, shop.answers, blog.serves, blog.answers) == ("A", shop.live, "B", blog.live)
        listed = sites.upswitch("sites")
        rows = {row["name"]: (row["pool"], row["generation"], row["proved"]) for row in listed.json["sites"]}
        assert (listed.exit, rows) == (0, {shop.name: ("A", shop.live, True), blog.name: ("B", blog.live, True)})
        lines = [(app.dir / "live/marker.conf").read_text().count("keepalive_min_timeout ") for app in sites.apps]
        assert sum(lines) <= (0 if http else 1)
        assert sites.test().returncode == 0


def test_without_a_choice_between_two_sites_nothing_is_done_and_both_are_named(any_nginx, tmp_path):
    with two_sites(any_nginx, tmp_path) as sites:
        sites.adopt()
        refused = sites.upswitch("switch", "--to", "B")
        assert refused.exit == 2
        assert all(f"{app.name} ({app.site_file})" in refused.json["said"] for app in sites.apps)
        assert "-s NAME" in refused.json["hint"]
        assert {app.live for app in sites.apps} == {"000001-A"}
