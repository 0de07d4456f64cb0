"""`init`: from somebody's nginx to a site file, a first generation and one edit."""

import os

import pytest

from dumps import TEMP_PATHS, made_dump, real_dump
from upswitch.init.adopt import InitRequest, adopt, choose, read_by_nginx
from upswitch.init.edits import diff
from upswitch.init.places import AdoptRefused
from upswitch.init.pools import Candidate, sibling_names
from upswitch.nginx.configuration import includes_live, upstream_blocks
from upswitch.nginx.dump import parse_dump
from upswitch.nginx.statements import tokens
from upswitch.site.model import Check, CheckType, Nginx
from upswitch.site.read import parse_site

MAIN = """events {}
http {
    # include upstreamA.conf;
    include upstreamA.conf;  # the live one
    server { listen 127.0.0.1:29190; location / { proxy_pass http://tornado_servers; } }
}
"""
UPSTREAM_A = """upstream tornado_servers {
    server 127.0.0.1:29100 weight=100;
    server 127.0.0.1:29101 weight=100;
    check interval=30000 rise=3 fall=3 timeout=30000 type=tcp;
}
"""
UPSTREAM_B = UPSTREAM_A.replace(":2910", ":2911")
A = Candidate(pool="A", path="/e/upstreamA.conf", text=UPSTREAM_A)
B = Candidate(pool="B", path="/e/upstreamB.conf", text=UPSTREAM_B)
FILES = {"/e/nginx.conf": MAIN, "/e/upstreamA.conf": UPSTREAM_A}


def adopted(files=FILES, candidates=(A, B), nginx=Nginx()):  # noqa: B008  (frozen)
    return adopted_from(parse_dump(made_dump(files)), candidates, nginx=nginx)


def adopted_from(conf, candidates, **of_request):
    source, *siblings = candidates
    request = InitRequest(**{"from_path": source.path, "pool": source.pool, "nginx": Nginx(), "out": "/e/up.toml", **of_request})
    chosen = choose(conf, request, read_by_nginx(conf, request, source.text, {}))
    return adopt(conf, request, chosen, siblings)


def inline(files, pool="A"):
    """Adopt from the first of the files."""
    path, text = next(iter(files.items()))
    return adopted(files, (Candidate(pool=pool, path=path, text=text),))


def test_the_layout_of_the_first_issue_gives_both_pools_and_the_check():
    assert adopted().site_text.startswith("#:schema ./upswitch.schema.json\n")
    site = parse_site(adopted().site_text)
    assert site.pools == ("A", "B")
    (upstream,) = site.upstreams
    assert [each.text for each in upstream.servers("A")] == ["127.0.0.1:29100 weight=100", "127.0.0.1:29101 weight=100"]
    assert [each.text for each in upstream.servers("B")] == ["127.0.0.1:29110 weight=100", "127.0.0.1:29111 weight=100"]
    assert upstream.check == Check(type=CheckType.TCP, interval_ms=30000, rise=3, fall=3, timeout_ms=30000)
    assert site.nginx == Nginx()


def test_only_the_includes_own_bytes_change():
    edit = adopted().edits[0]
    assert (edit.path, edit.old) == ("/e/nginx.conf", MAIN)
    assert edit.new == MAIN.replace("    include upstreamA.conf;  # the", "    include /etc/nginx/upswitch/live/*.conf;  # the")


def test_the_first_generation_is_the_file_as_it_is_with_its_check_lines():
    assert [(each.name, each.text) for each in adopted().files] == [("upstreamA.conf", UPSTREAM_A)]


def test_a_real_nginx_has_the_same_upstreams_after_the_edit(nginx, tmp_path):
    text = UPSTREAM_A.replace("    check", "    # check")
    main = MAIN.replace("http {", f"pid p; http {{ access_log off; {TEMP_PATHS}")
    files = {"nginx.conf": main, "upstreamA.conf": text}
    conf = parse_dump(real_dump(nginx, tmp_path, files))
    source = Candidate(pool="A", path=f"{tmp_path}/upstreamA.conf", text=text)
    settings = Nginx(dir=f"{tmp_path}/upswitch", conf=f"{tmp_path}/nginx.conf", binary=nginx)
    adoption = adopted_from(conf, (source,), nginx=settings)

    (file,) = adoption.files
    edited = {"nginx.conf": adoption.edits[0].new, f"upswitch/generations/000001-A/{file.name}": file.text}
    (tmp_path / "upswitch").mkdir()
    os.symlink("generations/000001-A", tmp_path / "upswitch/live")
    after = parse_dump(real_dump(nginx, tmp_path, edited))

    assert includes_live(after, settings.include).line == 4
    assert [_said(each) for each in upstream_blocks(after)] == [_said(each) for each in upstream_blocks(conf)]
    assert parse_site(adoption.site_text).nginx == settings
    with pytest.raises(AdoptRefused, match="adopted before"):
        adopted_from(after, (source,), nginx=settings)


def _said(directive):
    return (directive.text, [each.text for each in directive.block])


def test_a_block_inside_nginx_conf_becomes_the_include_and_the_rest_stays():
    block = 'upstream app {\n\tleast_conn;\n\tserver unix:/run/a.sock; server 127.0.0.1:81; # "}"\n}'
    text = f"events {{}}\nhttp {{\n\t# upstream app {{ }}\n\t{block} server {{ content_by_lua_block {{ -- don't\n }} }}\n}}\n"
    adoption = inline({"/e/nginx.conf": text})
    assert adoption.edits[0].new == text.replace(block, "include /etc/nginx/upswitch/live/*.conf;")
    assert [(each.name, each.text) for each in adoption.files] == [("app.conf", block + "\n")]
    (upstream,) = parse_site(adoption.site_text).upstreams
    assert (upstream.name, upstream.directives, upstream.check) == ("app", ("least_conn",), None)


def test_a_block_beside_its_server_in_a_file_of_a_pattern_can_be_adopted_too():
    text = "upstream app { server 127.0.0.1:81; }\nserver { location / { proxy_pass http://app; } }\n"
    files = {"/e/nginx.conf": "http { include conf.d/*.conf; }", "/e/conf.d/app.conf": text}
    edit = adopted(files, (Candidate(pool="A", path="/e/conf.d/app.conf", text=text),)).edits[0]
    assert (edit.path, edit.new.splitlines()[1]) == ("/e/conf.d/app.conf", text.splitlines()[1])


def test_every_upstream_of_the_file_is_in_the_site_with_every_pool():
    both = [text + text.replace("tornado_servers", "api.v2").replace(":29", ":39") for text in (UPSTREAM_A, UPSTREAM_B)]
    candidates = tuple(Candidate(pool=each.pool, path=each.path, text=text) for each, text in zip((A, B), both, strict=True))
    site = parse_site(adopted({**FILES, A.path: both[0]}, candidates).site_text)
    assert [(each.name, [pool.name for pool in each.pools]) for each in site.upstreams] == [
        ("tornado_servers", ["A", "B"]),
        ("api.v2", ["A", "B"]),
    ]


def test_settings_that_are_not_the_default_are_written():
    settings = Nginx(conf="/e/nginx.conf", dir="/srv/up", reload=("systemctl", "reload", "nginx"), drain=0.25)
    assert parse_site(adopted(nginx=settings).site_text).nginx == settings


def test_a_sibling_without_the_same_upstreams_is_left_out_with_a_remark():
    other = Candidate(pool="B", path=B.path, text="upstream other { server 127.0.0.1:1; }")
    broken = Candidate(pool="C", path="/e/upstreamC.conf", text="upstream x {")
    text = adopted(candidates=(A, other, broken)).site_text
    assert parse_site(text).pools == ("A",)
    assert "/e/upstreamB.conf was left out" in text
    assert "/e/upstreamC.conf was left out" in text
    assert "# B = [...]" in text


def test_a_sibling_with_another_check_is_taken_with_a_remark():
    other = Candidate(pool="B", path=B.path, text=UPSTREAM_B.replace("rise=3", "rise=1"))
    text = adopted(candidates=(A, other)).site_text
    assert "the check of upstream tornado_servers differs" in text
    assert parse_site(text).upstreams[0].check.rise == 3


def test_an_http_check_comes_back_as_it_was():
    http = 'check type=http interval=2000;check_http_send "GET /?a=\\"b\\" HTTP/1.0\\r\\n\\r\\n"; check_http_expect_alive http_2xx;'
    text = UPSTREAM_A.replace("check interval=30000 rise=3 fall=3 timeout=30000 type=tcp;", http)
    source = Candidate(pool="A", path=A.path, text=text)
    check = parse_site(adopted({**FILES, A.path: text}, (source,)).site_text).upstreams[0].check
    assert check == Check(
        type=CheckType.HTTP,
        interval_ms=2000,
        http_send='GET /?a="b" HTTP/1.0\r\n\r\n',
        http_expect_alive=("http_2xx",),
    )


def test_a_check_of_any_type_is_the_gates_too():
    text = UPSTREAM_A.replace("type=tcp", "type=ajp")
    source = Candidate(pool="A", path=A.path, text=text)
    site = parse_site(adopted({**FILES, A.path: text}, (source,)).site_text)
    assert (site.gate.type, site.upstreams[0].check.type) == (None, CheckType.AJP)


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"/e/nginx.conf": "http { }"}, "does not read /e/upstreamA.conf; include it in the http block of /e/nginx.conf"),
        ({"/e/nginx.conf": "http { include l.conf; }", "/e/l.conf": UPSTREAM_A}, "the same text as /e/l.conf"),
        ({"/e/nginx.conf": "http { include upstreamA.conf; include /e/upstreamA.conf; }", A.path: UPSTREAM_A}, "included 2 times"),
        (
            {"/e/nginx.conf": "stream { include upstreamA.conf; }", A.path: UPSTREAM_A},
            "no upstream block that nginx reads inside http",
        ),
        ({"/e/nginx.conf": "http { include upstreamA.conf; }", A.path: UPSTREAM_A + "\n"}, "has changed since nginx -T read it"),
        (
            {"/e/nginx.conf": MAIN.replace("upstreamA.conf;  #", "# why\n upstreamA.conf; #"), A.path: UPSTREAM_A},
            "be found in the text",
        ),
    ],
)
def test_what_cannot_be_one_edit_is_refused_with_what_to_do(files, why):
    with pytest.raises(AdoptRefused, match=why):
        adopted(files)


@pytest.mark.parametrize(
    ("inner", "why"),
    [
        ("upstream a { keepalive 2; }", "has no server;"),
        ("map $x $y { default 1; }", "no upstream block"),
    ],
)
def test_an_inline_block_that_does_not_fit_is_refused(inner, why):
    with pytest.raises(AdoptRefused, match=why):
        inline({"/e/nginx.conf": f"http {{ {inner} }}", "/e/servers.conf": "server 1.1.1.1;"})


@pytest.mark.parametrize(
    ("include", "text"),
    [
        ("\tinclude   'upstreamA.conf' ;\r\n", "\t{}\r\n"),
        ('server {{ }} include "/e/upstreamA.conf"; server {{ }}', "server {{ }} {} server {{ }}"),
        (
            "include mime.types; include\n upstreamA.conf; # include upstreamA.conf;",
            "include mime.types; {} # include upstreamA.conf;",
        ),
    ],
)
def test_the_include_is_found_however_it_is_written(include, text):
    main = "http {{\n" + include + "\n}}\n"
    files = {"/e/nginx.conf": main.format(), A.path: UPSTREAM_A, "/e/mime.types": ""}
    expected = ("http {{\n" + text + "\n}}\n").format("include /etc/nginx/upswitch/live/*.conf;")
    assert adopted(files).edits[0].new == expected


@pytest.mark.parametrize(
    ("path", "pool", "listing", "found"),
    [
        (
            "/e/upstreamA.conf",
            "A",
            ["nginx.conf", "upstreamA.conf", "upstreamB.conf", "upstream_old.conf", "upstreamB.conf.bak"],
            {"B": "/e/upstreamB.conf"},
        ),
        ("/e/app-blue.conf", "blue", ["app-green.conf", "app-blue.conf"], {"green": "/e/app-green.conf"}),
        ("/e/a_a.conf", "a", ["b_a.conf", "a_b.conf"], {"b": "/e/a_b.conf"}),
        ("/e/pool1", "1", ["pool2", "pool"], {"2": "/e/pool2"}),
        ("/e/v1-x.conf", "v1", ["v2-x.conf"], {"v2": "/e/v2-x.conf"}),
        ("/e/nginx.conf", "A", ["upstreamB.conf"], {}),
    ],
)
def test_siblings_have_the_same_name_but_for_the_pool(path, pool, listing, found):
    assert sibling_names(path, pool, listing) == found


@pytest.mark.parametrize(
    ("name", "generation_name"),
    [("upstreamA.conf", "upstreamA.conf"), ("marker.conf", "upstream-marker.conf"), (".up", "up.conf"), ("up.inc", "up.inc.conf")],
)
def test_our_include_matches_the_file_of_the_generation(name, generation_name):
    files = {"/e/nginx.conf": f"http {{ include {name}; }}", f"/e/{name}": UPSTREAM_A}
    (file,) = adopted(files, (Candidate(pool="A", path=f"/e/{name}", text=UPSTREAM_A),)).files
    assert file.name == generation_name
    assert tokens(file.text) == tokens(UPSTREAM_A)


def test_the_diff_names_the_file_and_shows_the_one_line():
    edit = adopted().edits[0]
    assert [line for line in diff(edit.old, edit.new, edit.path).splitlines() if line[0] in "+-"] == [
        "--- /e/nginx.conf",
        "+++ /e/nginx.conf",
        "-    include upstreamA.conf;  # the live one",
        "+    include /etc/nginx/upswitch/live/*.conf;  # the live one",
    ]


def test_the_diff_of_files_without_a_last_newline_says_so():
    assert diff("a\x0cb", "a\x0cc", "f").endswith("-a\x0cb\n\\ No newline at end of file\n+a\x0cc\n\\ No newline at end of file\n")
    assert diff("a", "a", "f") == ""
