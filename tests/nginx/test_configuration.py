"""Questions to configurations that a real nginx read and dumped."""

import pytest
from msgspec.structs import replace

from dumps import TEMP_PATHS, made_dump, real_dump, version_text
from upswitch.nginx.build import parse_build
from upswitch.nginx.conf_logs import COMBINED, access_logs, error_logs, log_formats, own_logs
from upswitch.nginx.configuration import (
    defined_elsewhere,
    http,
    includes_live,
    listens,
    lives,
    load_modules,
    may_name,
    named_servers,
    passed_upstream,
    passed_upstreams,
    pid_file,
    resolvers,
    upstream_blocks,
    user,
    worker_processes,
)
from upswitch.nginx.drain_lines import passing
from upswitch.nginx.dump import DumpError, matches_include, parse_dump, walk

BUILD = parse_build("nginx version: nginx/1.26.0\nconfigure arguments: --prefix=/opt/n --http-log-path=/var/log/a.log\n")

FILES = {
    "nginx.conf": f"""user root;
worker_processes 3;
pid run.pid;
error_log logs.err warn;
events {{ worker_connections 64; }}
http {{
    {TEMP_PATHS}
    resolver 127.0.0.53 valid=10s;
    resolver_timeout 2s;
    log_format timed escape=json '{{"t":"$msec",'
        '"s":"$status"}}';
    log_format old '$remote_addr \\"$request\\"';
    access_log main.log timed buffer=4k flush=1s;
    include conf.d/*.conf;
    include up/live/*.conf;
    map $uri $why {{ include why.map; default "a \\"quoted\\"; {{word}}"; }}
}}
""",
    "why.map": "/x 1;\n",
    "conf.d/20-late.conf": """server {
    listen 127.0.0.1:29391;
    server_name late;
    location / { proxy_pass http://app; }
    location /quiet { access_log off; proxy_pass http://app/sub; }
    location /own {
        access_log own.log old;
        access_log syslog:server=127.0.0.1:29399 timed if=$why;
        error_log own.err;
        proxy_pass http://$host$uri;
    }
    location ~ "^/(a|b){1,2}\\.php$" { fastcgi_pass app; access_log /dev/null; }
}
""",
    "conf.d/10-early.conf": """upstream app { server 127.0.0.1; server localhost:29393 backup; server unix:/x.s; server [::1]; }
server {
    listen 127.0.0.1:29390;
    listen 29395;
    listen unix:listen.sock;
    access_log $host.log;
    error_page 500 /500;
    location /a {
        if (-f /run/flag) { return 418; }
        error_page 418 = @drain;
        proxy_pass http://app;
    }
    location /b {
        error_page 418 = @drain;
        proxy_pass http://app;
        limit_except GET { deny all; }
    }
    location /c {
        if ($request_method = POST) { proxy_pass http://app; }
        proxy_pass http://127.0.0.1:29396;
    }
    location @drain { keepalive_timeout 0; proxy_pass http://app; }
}
""",
    "conf.d/.hidden.conf": "this is not read;\n",
    "conf.d/b.conf.tmp": "this is not read either;\n",
    "up/live/tornado.conf": "upstream tornado_servers { server 127.0.0.1:29100; }\n",
}


@pytest.fixture
def conf(nginx, tmp_path):
    return parse_dump(real_dump(nginx, tmp_path, FILES))


def test_a_dump_made_by_hand_is_what_a_real_nginx_writes(nginx, tmp_path):
    files = {"nginx.conf": f"events {{}}\nhttp {{ {TEMP_PATHS} include b.conf; }}", "b.conf": "# no newline at the end\n\n"}
    assert real_dump(nginx, tmp_path, files) == made_dump({f"{tmp_path}/{name}": text for name, text in files.items()})


def test_the_files_are_the_ones_that_nginx_reads_byte_for_byte(conf, tmp_path):
    read = {each.path.removeprefix(f"{tmp_path}/"): each.text for each in conf.files}
    assert read == {name: text for name, text in FILES.items() if "not read" not in text}
    assert conf.path == f"{tmp_path}/nginx.conf"


def test_included_statements_stand_behind_their_include_in_the_order_of_their_names(conf, tmp_path):
    names = [(each.name, each.file.removeprefix(f"{tmp_path}/"), each.line) for each in http(conf).block]
    at = names.index(("include", "nginx.conf", 14))
    assert names[at + 1 : at + 4] == [
        ("upstream", "conf.d/10-early.conf", 1),
        ("server", "conf.d/10-early.conf", 2),
        ("server", "conf.d/20-late.conf", 1),
    ]
    (why,) = (each for each in http(conf).block if each.name == "map")
    assert [(each.name, each.args) for each in why.block] == [
        ("include", ("why.map",)),
        ("/x", ("1",)),
        ("default", ('a "quoted"; {word}',)),
    ]


def test_main_settings_are_found(conf, tmp_path):
    assert (user(conf, BUILD), worker_processes(conf), load_modules(conf)) == ("root", "3", ())
    assert pid_file(conf, BUILD) == "/opt/n/run.pid"
    assert pid_file(conf, replace(BUILD, prefix_option=str(tmp_path))) == f"{tmp_path}/run.pid"


def test_the_pid_file_that_we_name_is_the_one_that_nginx_makes(nginx, conf, tmp_path):
    assert conf.files
    build = parse_build(version_text(nginx))
    path = pid_file(conf, replace(build, prefix_option=str(tmp_path)))
    with open(path) as made:  # `nginx -T` leaves an empty one
        assert made.read() == ""


def test_missing_settings_are_the_defaults_of_the_build():
    conf = parse_dump(made_dump({"/etc/nginx/nginx.conf": "load_module modules/x.so;\nevents {}\n"}))
    assert (user(conf, BUILD), worker_processes(conf), pid_file(conf, BUILD)) == ("nobody", "1", "/opt/n/logs/nginx.pid")
    assert load_modules(conf) == ("load_module modules/x.so;",)
    assert (http(conf), access_logs(conf, BUILD), listens(conf)) == (None, (), ())
    assert [(each.path, each.threshold) for each in error_logs(conf, BUILD)] == [("/opt/n/logs/error.log", "error")]


def test_resolvers_upstreams_and_named_servers_are_found(conf):
    assert resolvers(conf) == ("resolver 127.0.0.53 valid=10s;", "resolver_timeout 2s;")
    assert [each.args[0] for each in upstream_blocks(conf)] == ["app", "tornado_servers"]
    assert named_servers(conf) == (("app", "localhost:29393"),)


def test_our_include_is_found_by_its_full_pattern_only(conf, tmp_path):
    assert includes_live(conf, f"{tmp_path}/up/live/*.conf").line == 15
    assert includes_live(conf, "/etc/nginx/upswitch/live/*.conf") is None


def test_listens_have_an_address_and_a_port(conf):
    assert listens(conf) == ("127.0.0.1:29390", "*:29395", "unix:listen.sock", "127.0.0.1:29391")


@pytest.mark.parametrize(
    ("line", "address"),
    [("listen [::];", "[::]:80"), ("listen 1.2.3.4;", "1.2.3.4:80"), ("listen *:81 ssl;", "*:81"), ("", "*:80")],
)
def test_a_listen_gets_nginxs_default_port(line, address):
    assert listens(parse_dump(made_dump({"/n.conf": f"http {{ server {{ {line} }} }}"}))) == (address,)


def test_access_logs_are_inherited_replaced_and_turned_off_as_in_nginx(conf, tmp_path):
    logs = access_logs(conf, parse_build("nginx version: nginx/1.22.1\n", prefix=str(tmp_path)))
    assert [(each.path.removeprefix(f"{tmp_path}/"), each.upstreams) for each in logs] == [
        ("$host.log", ("app", "127.0.0.1:29396")),
        ("main.log", ("app",)),
        ("", ("app",)),
        ("own.log", ("",)),
        ("syslog:server=127.0.0.1:29399", ("",)),
        ("/dev/null", ("app",)),
    ]
    assert [each.is_file for each in logs] == [False, True, False, True, False, True]
    main = logs[1]
    assert (main.buffer, main.flush, main.gzip, main.condition) == ("4k", "1s", "", "")
    assert (main.format.text, main.format.escape) == ('{"t":"$msec","s":"$status"}', "json")
    assert (logs[3].format.text, logs[4].condition) == ('$remote_addr "$request"', "$why")
    assert (logs[5].format.name, logs[5].format.text) == ("combined", COMBINED)
    assert set(log_formats(conf)) == {"combined", "timed", "old"}


def test_a_log_that_two_servers_write_is_one_with_the_upstreams_of_both():
    server = "server {{ access_log a.log; location / {{ proxy_pass http://{0}; }} }}\n"
    conf = parse_dump(made_dump({"/n.conf": "http {\n" + server.format("x") + server.format("y") + "}"}))
    assert [(each.path, each.line, each.upstreams) for each in access_logs(conf, BUILD)] == [("/opt/n/a.log", 2, ("x", "y"))]


def test_each_place_that_turns_the_log_off_has_its_own_line():
    own, marker = "server { access_log off; location / { proxy_pass http://x; } }\n", "server { access_log off; }\n"
    conf = parse_dump(made_dump({"/n.conf": "http {\n" + marker + own + "}"}))
    assert [(each.line, each.upstreams) for each in access_logs(conf, BUILD)] == [(2, ()), (3, ("x",))]


def test_without_an_access_log_line_the_compiled_one_is_in_effect():
    conf = parse_dump(made_dump({"/n.conf": "http { server { location / { proxy_pass http://x; } } }"}))
    (log,) = access_logs(conf, BUILD)
    assert (log.path, log.file, log.format.name, log.upstreams) == ("/var/log/a.log", "", "combined", ("x",))


def test_an_undefined_format_is_none_and_gzip_without_a_level_counts():
    conf = parse_dump(made_dump({"/n.conf": "http { access_log a.log nothere gzip; }"}))
    (log,) = access_logs(conf, BUILD)
    assert (log.format, log.format_name, log.gzip) == (None, "nothere", "1")


def test_error_logs_begin_with_the_masters(conf):
    assert [(each.path, each.threshold) for each in error_logs(conf, BUILD)] == [
        ("/opt/n/logs.err", "warn"),
        ("/opt/n/own.err", "error"),
    ]


def test_locations_that_pass_to_an_upstream_are_found_in_included_files_and_in_if(conf):
    assert [(each.name, each.location.line) for each in passing(conf, {"app"})] == [
        ("/a", 8),
        ("/b", 13),
        ("/c", 18),
        ("@drain", 22),
        ("/", 4),
        ("/quiet", 5),
        (r"~ ^/(a|b){1,2}\.php$", 12),
    ]


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("proxy_pass https://app/x", "app"),
        ("grpc_pass grpcs://app", "app"),
        ("uwsgi_pass app", "app"),
        ("memcached_pass app", "app"),
        ("proxy_pass http://app$request_uri", "app"),
        ("proxy_pass http://$pool", ""),
        ("proxy_pass http://unix:/tmp/s:/x", "unix:/tmp/s"),
        ("uwsgi_pass unix:///tmp/s", "unix:///tmp/s"),
        ("proxy_pass $scheme://app", "app"),
    ],
)
def test_the_upstream_that_a_pass_names(line, name):
    (directive,) = parse_dump(made_dump({"/n.conf": f"{line};"})).tree
    assert passed_upstream(directive) == name


def test_a_min_timeout_that_is_not_ours_is_found():
    files = {"/e/n.conf": "http { include up/live/*.conf; }", "/e/up/live/marker.conf": "keepalive_min_timeout 1s;"}
    assert defined_elsewhere(parse_dump(made_dump(files)), "keepalive_min_timeout", live="/e/up/live") is None
    assert (
        defined_elsewhere(parse_dump(made_dump(files)), "keepalive_min_timeout", live="/other/live").place
        == "/e/up/live/marker.conf:1"
    )


def test_lua_and_unknown_directives_can_be_read():
    text = """http {
    init_by_lua_block { local s = "}" -- don't }
        print('{') }
    check_shm_size 5M; unheard_of { of "it"; }
    server { location / { content_by_lua_block { ngx.say("}") } } location /p { proxy_pass http://app; } }
    upstream app { server 127.0.0.1; check interval=3000 type=http; check_http_send "HEAD / HTTP/1.0\\r\\n\\r\\n"; }
}
"""
    conf = parse_dump(made_dump({"/n.conf": text}))
    assert [each.location.line for each in passing(conf, ["app"])] == [5]
    check, send = upstream_blocks(conf)[0].children("check", "check_http_send")
    assert (check.args, send.args) == (("interval=3000", "type=http"), ("HEAD / HTTP/1.0\r\n\r\n",))
    assert send.text == 'check_http_send "HEAD / HTTP/1.0\\r\\n\\r\\n";'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nginx: [emerg] no",
        made_dump({"/n.conf": "http {"}),
        made_dump({"/n.conf": 'a "b'}),
        made_dump({"/n.conf": "include n.conf;"}),
    ],
)
def test_a_text_that_is_not_a_whole_dump_is_an_error(text):
    with pytest.raises(DumpError):
        parse_dump(text)


@pytest.mark.parametrize(
    ("pattern", "path", "reads"),
    [
        ("/e/*.conf", "/e/a.conf", True),
        ("/e/*.conf", "/e/x/a.conf", False),
        ("/e/*.conf", "/e/.a.conf", False),
        ("/e/*", "/e/a.conf~", True),
        ("/e/?.conf", "/e/ab.conf", False),
        ("/e/[ab].conf", "/e/b.conf", True),
        ("/e/*/a.conf", "/e/x/a.conf", True),
        ("/e/a.conf", "/e/a.conf", True),
        ("/e/a.conf", "/e/aXconf", False),
    ],
)
def test_include_patterns_match_as_glob_does(pattern, path, reads):
    assert matches_include(pattern, path) is reads


# ---- several sites on one nginx ----

BOTH = "'$status $upswitch_generation ${upswitch_blog_generation} $upswitch_pool'"


def two_sites(http="", blog="upswitch_blog"):
    """A site from before sites had names, and a named one; the log format has the variables of both."""
    conf = f"http {{ include up/live/*.conf; include blog/live/*.conf; log_format both {BOTH}; access_log /a.log both; {http} }}"
    maps = {"up": "upswitch", "blog": blog}
    markers = {f"/e/{site}/live/marker.conf": f'map "" ${prefix}_generation {{ default "1"; }}' for site, prefix in maps.items()}
    return parse_dump(made_dump({"/e/n.conf": conf, **markers}))


def owned(conf, live):
    (log,) = own_logs(conf, BUILD, (), live=live, otherwise="upswitch_new")
    return log.prefix, log.format.text, log.others


def test_each_site_reads_its_own_generation_from_a_log_that_has_several():
    foreign = "$upswitch_generation_foreign"
    old, named = owned(two_sites(), "/e/up/live"), owned(two_sites(), "/e/blog/live")
    assert old == ("upswitch", BOTH[1:-1], ("upswitch_blog_generation",))
    text = f"$status {foreign} ${{upswitch_generation}} $upswitch_pool"
    assert named == ("upswitch_blog", text, ("upswitch_generation",))
    new = f"$status {foreign} ${{upswitch_blog_generation}} $upswitch_pool"
    assert owned(two_sites(), "/e/new/live") == ("upswitch_new", new, ("upswitch_generation", "upswitch_blog_generation"))


@pytest.mark.parametrize(
    "http",
    [
        'map $x $upswitch_generation { default "-"; }',
        "geo $upswitch_generation { default 1; }",
        "server { location / { set $upswitch_generation x; } }",
    ],
)
def test_a_variable_that_another_file_sets_too_says_nothing_about_the_site(http):
    assert "$upswitch_generation_foreign " in owned(two_sites(http), "/e/up/live")[1]
    assert "{upswitch_generation}" in owned(two_sites(http), "/e/blog/live")[1]


def test_two_sites_that_define_the_same_variable_both_go_without_it():
    conf = two_sites(blog="upswitch")
    assert [owned(conf, live)[1].count("_foreign") for live in ("/e/up/live", "/e/blog/live")] == [1, 1]
    assert lives(conf) == ("/e/up/live", "/e/blog/live")


# ---- which logs are of an upstream ----

MAPS = """map $http_x $pool { default app_$color; old "LEGACY"; ~^re $1; } map $cookie_c $color { default blue; g green; }"""

PARTS = "set $address 10.0.0.1; set $port 81; set $socket http://unix:/run/a.sock:/x;"


@pytest.mark.parametrize(
    ("passes", "names"),
    [
        ("http://App", ("App",)),
        ("http://$pool", ("app_blue", "app_green", "LEGACY", "")),
        ("http://$pool/x$uri", ("app_blue", "app_green", "LEGACY", "")),
        ("$whole", ("set_app",)),
        ("http://$host", ("",)),
        ("http://$endless", ("",)),
        ("http://127.0.0.1:81$request_uri", ("127.0.0.1:81",)),
        ("http://[::1]:81$is_args$args", ("[::1]:81",)),
        ("$scheme://$pool$uri", ("app_blue", "app_green", "LEGACY", "")),
        ("$scheme://$address:$port$request_uri", ("10.0.0.1:81",)),
        ("$socket", ("unix:/run/a.sock",)),
    ],
)
def test_a_variable_of_a_pass_is_followed_to_the_upstreams_that_it_can_name(passes, names):
    location = f"location / {{ set $whole http://set_app/x; set $endless $endless; {PARTS} proxy_pass {passes}; }}"
    conf = parse_dump(made_dump({"/n.conf": f"http {{ {MAPS} server {{ {location} }} }}"}))
    (line,) = (each for each in walk(conf.tree) if each.name == "proxy_pass")
    assert sorted(passed_upstreams(conf, line)) == sorted(names)


@pytest.mark.parametrize(
    ("passes", "may"),
    [
        ("http://app_$1", True),
        ("http://${tenant}_blue/x", True),
        ("http://app_$host:81", False),
        ("http://$host", False),
        ("http://app_$color", True),
        ("http://api_$1", False),
    ],
)
def test_a_pass_with_a_variable_that_nobody_knows_may_name_what_its_text_fits(passes, may):
    conf = parse_dump(made_dump({"/n.conf": f"http {{ {MAPS} server {{ location / {{ proxy_pass {passes}; }} }} }}"}))
    (line,) = (each for each in walk(conf.tree) if each.name == "proxy_pass")
    assert may_name(conf, line, "app_blue") is may


@pytest.mark.parametrize(
    ("app", "paths"),
    [
        ("proxy_pass http://APP;", {"/app.log"}),
        ("proxy_pass http://$pool;", {"/app.log"}),
        ("proxy_pass http://$host;", {"/app.log"}),
        ("proxy_pass http://other;", {"/static.log"}),
    ],
)
def test_the_log_of_another_vhost_or_of_the_marker_is_no_log_of_the_upstream(app, paths):
    hosts = {"app": app, "legacy": "proxy_pass http://legacy;", "static": "root /srv;"}
    servers = "".join(f"server {{ access_log /{name}.log; location / {{ {does} }} }}" for name, does in hosts.items())
    marker = {"/e/up/live/marker.conf": "server { access_log /marker.log; location / { return 200; } }"}
    http_ = f"http {{ map $x $pool {{ default app; }} {servers} include up/live/*.conf; }}"
    conf = parse_dump(made_dump({"/e/n.conf": http_, **marker}))
    assert {log.path for log in own_logs(conf, BUILD, ("app",), live="/e/up/live")} == paths
