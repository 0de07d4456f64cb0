"""A drain location and the location that it stands in for: each directive that does not hold in both is a difference."""

import pytest

from dumps import made_dump
from upswitch.nginx.build import parse_build
from upswitch.nginx.drain_compare import advice, differences, jumps
from upswitch.nginx.drain_lines import with_lines
from upswitch.nginx.dump import parse_dump
from upswitch.nginx.statements import StatementError

OLD = parse_build("nginx version: nginx/1.22.1\nconfigure arguments:\n")
FLAG = "/run/drain"
PASS = "proxy_pass http://app;"
JUMP = f"if (-f {FLAG}) {{ return 418; }} error_page 418 = @d;"


def read(text):
    return parse_dump(made_dump({"/n.conf": text}))


def server(*lines, http=""):
    return f"http {{ {http}\nserver {{\n" + "\n".join(lines) + "\n} }\n"


def compared(text):
    """Directive and danger of each difference."""
    conf = read(text)
    return [(each.directive, each.is_access) for each in differences(conf, jumps(conf, flag=FLAG))]


def ours(*lines):
    """With the lines that upswitch prints."""
    text = server(*lines)
    return with_lines(text, advice(read(text), OLD, ["app"], flag=FLAG))


@pytest.mark.parametrize(
    ("directive", "is_access"),
    [
        ("auth_basic secret;", True),
        ("deny all;", True),
        ("allow 10.0.0.0/8;", True),
        ("auth_request /ask;", True),
        ("satisfy any;", True),
        ("limit_req zone=z;", True),
        ("limit_conn z 1;", True),
        ("limit_rate 1k;", True),
        ("limit_except GET { deny all; }", True),
        ("client_max_body_size 1k;", True),
        ("if ($bad) { return 403; }", True),
        ("return 403;", True),
        ("set $way 1;", False),
        ("rewrite ^/x(.*) $1 break;", False),
        ("proxy_set_header Host $host;", False),
        ("proxy_read_timeout 1h;", False),
        ("add_header X y;", False),
        ("sub_filter a b;", False),
        ("try_files /a /b;", False),
        ("proxy_cache zone;", False),
        ("unheard_of on;", False),
    ],
)
def test_what_the_old_advice_loses_is_a_difference_unless_the_drain_location_repeats_it(directive, is_access):
    location = f"location / {{ {JUMP} {directive} {PASS} }}"
    name = {"deny": "allow", "set": "rewrite", "if": "rewrite", "return": "rewrite"}.get(
        directive.split()[0], directive.split()[0].rstrip(";")
    )
    assert compared(server(location, f"location @d {{ keepalive_timeout 0; {PASS} }}")) == [(name, is_access)]
    assert compared(server(location, f"location @d {{ keepalive_timeout 0; {directive} {PASS} }}")) == []
    assert compared(server(f"location / {{ {JUMP} {PASS} }}", f"location @d {{ keepalive_timeout 0; {directive} {PASS} }}")) == [
        (name, is_access)
    ]


@pytest.mark.parametrize("other", ["proxy_pass http://app/;", "proxy_pass https://app;", "proxy_pass http://other;"])
def test_another_pass_is_a_difference(other):
    assert compared(server(f"location / {{ {JUMP} {PASS} }}", f"location @d {{ keepalive_timeout 0; {other} }}")) == [
        ("proxy_pass", False)
    ]


def test_what_the_server_has_holds_in_both():
    text = server("auth_basic x; limit_req zone=z; proxy_set_header Host $host;", f"location / {{ {JUMP} {PASS} }}")
    assert compared(text.replace("{ if", "{ auth_basic off; if")[:-5] + f"location @d {{ keepalive_timeout 0; {PASS} }} }} }}") == [
        ("auth_basic", True)
    ]
    assert compared(text[:-5] + f"location @d {{ keepalive_timeout 0; {PASS} }} }} }}") == []


def test_error_pages_that_the_old_advice_hides_are_a_difference():
    named = f"location @d {{ keepalive_timeout 0; {PASS} }}"
    hidden = server("error_page 502 /sorry;", f"location / {{ {JUMP} {PASS} }}", named)
    assert compared(hidden) == [("error_page", False)]
    repeated = server(f"location / {{ {JUMP} error_page 502 /sorry; {PASS} }}", named)
    assert compared(repeated) == [("error_page", False)]
    assert compared(repeated.replace("timeout 0;", "timeout 0; recursive_error_pages on;")) == [("recursive_error_pages", False)]


def test_a_drain_location_that_does_not_exist_or_stands_in_for_a_whole_server_is_dangerous():
    assert compared(server(f"location / {{ {JUMP} {PASS} }}")) == [("location", True)]
    assert compared(server(JUMP, f"location / {{ {PASS} }}", f"location @d {{ keepalive_timeout 0; {PASS} }}")) == [("if", True)]


def test_a_nested_location_inherits_all_but_what_nginx_does_not_pass_on():
    way = f"if (-f {FLAG}) {{ rewrite ^ /x/d last; }}"
    inner = "location = /x/d { internal; keepalive_timeout 0; proxy_pass http://app$request_uri; }"
    held = "auth_basic x; allow all; proxy_set_header Host $host; limit_req zone=z;"
    assert compared(server(f"location /x/ {{ {way} {held} {PASS} {inner} }}")) == []
    assert compared(server(f"location /x/ {{ {way} limit_except GET {{ deny all; }} {PASS} {inner} }}")) == [("limit_except", True)]
    assert compared(server(f"location /x/ {{ {way} if ($bad) {{ return 403; }} {PASS} {inner} }}")) == [("rewrite", True)]
    assert compared(server(f"location /x/ {{ {way} {PASS} {inner} }}").replace("$request_uri", "/y")) == [
        ("rewrite", False),
        ("proxy_pass", False),
    ]


def test_a_nested_location_must_ask_the_server_for_the_same_address():
    plain = f"if (-f {FLAG}) {{ rewrite ^ /x/d last; }} {PASS} location = /x/d {{ keepalive_timeout 0; {PASS} }}"
    assert compared(server(f"location /x/ {{ {plain} }}")) == [("rewrite", False)]
    sent = plain.replace(f"timeout 0; {PASS}", "timeout 0; proxy_pass http://app$request_uri;")
    assert compared(server(f"location /x/ {{ {sent} }}")) == []
    rewritten = server(f"location /x/ {{ {sent} }}", "location /old { rewrite ^/old(.*) /x$1 last; }")
    assert compared(rewritten) == [("rewrite", False), ("proxy_pass", False)]
    part = f"if (-f {FLAG}) {{ rewrite ^/x/(.*)$ /x/d/$1 last; }} proxy_pass http://app/v1/;"
    inner = "location ^~ /x/d/ { keepalive_timeout 0; proxy_pass http://app/v1/; }"
    assert compared(server(f"location /x/ {{ {part} {inner} }}")) == []
    assert compared(server(f"location /x/ {{ {part} {inner} }}".replace("/x/d/$1", "/x/d/"))) == [("rewrite", False)]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("client_max_body_size 0;", ""),
        ("keepalive_timeout 0;", "keepalive_timeout 0; deny all;"),
        ("$upswitch_drained$upswitch_escaped", "$upswitch_drained"),
        ('set $upswitch_escaped "";', ""),
        ("rewrite ^ $upswitch_uri last;", "rewrite ^ / last;"),
        ('set $upswitch_drained "";', 'rewrite ^/a /b break; set $upswitch_drained "";'),
        ("location / {", "location / { rewrite ^/a /b break;"),
        ("location = /upswitch_drain {", "location = /other { keepalive_timeout 0; } location = /elsewhere {"),
        ("/upswitch_drain@app", "/upswitch_drain"),
    ],
)
def test_our_own_lines_must_be_as_they_were_printed(old, new):
    text = ours(f"location / {{\n{PASS}\n}}", "location @app { proxy_pass http://app; }")
    assert compared(text) == []
    assert old in text
    changed = text.replace(old, new)
    assert compared(changed) != []
    assert advice(read(changed), OLD, ["app"], flag=FLAG) != ()


def test_our_lines_hold_whatever_stands_in_the_location_and_are_not_advised_twice():
    text = ours(
        "location /a { auth_basic x; limit_except GET { deny all; } proxy_pass https://app/v1/; }",
        "location ~ ^/b$ { fastcgi_pass app; }",
    )
    assert compared(text) == []
    assert advice(read(text), OLD, ["app"], flag=FLAG) == ()


@pytest.mark.parametrize(
    "text",
    [
        "http { server { location / { proxy_pass http://app; } location /b { proxy_pass http://app; } } }",
        "http\n{\nserver\n{\n\tlocation /\n\t{\n\t\tproxy_pass http://app;\n\t}\n}\n}\n",
        "http {\nserver { # the shop\nlocation / { # all\nproxy_pass http://app; # here\n}\n}\n}",
        'http {\nserver {\nlocation ~ "^/[{;]a{1,2} b$" { proxy_pass http://app; }\nlocation "/a b" {fastcgi_pass app;}\n}\n}',
        "http {\r\nserver {\r\n  location / {\r\n    proxy_pass http://app;\r\n  }\r\n}\r\n}\r\n",
        "http { map $uri $x { default 'server {'; }\nserver { location /server { proxy_pass http://app; } }\n}",
    ],
)
def test_lines_go_behind_the_right_brace_however_a_file_is_laid_out(text):
    new = with_lines(text, advice(read(text), OLD, ["app"], flag=FLAG))
    assert advice(read(new), OLD, ["app"], flag=FLAG) == ()
    assert compared(new) == []
    kept = [line.strip() for line in text.splitlines()]
    assert all(part in new for line in kept for part in line.split(" {"))


def test_two_servers_on_one_line_can_not_be_told_apart():
    text = "http { server { location / { proxy_pass http://app; } } server { location / { proxy_pass http://app; } } }"
    with pytest.raises(StatementError, match=r"line 1: .*begin it on a line of its own"):
        with_lines(text, advice(read(text), OLD, ["app"], flag=FLAG))


def test_another_sites_flag_in_the_same_location_is_left_alone():
    text = ours(f"location / {{ {PASS} }}")
    both = with_lines(text, advice(read(text), OLD, ["app"], flag="/run/other"))
    assert both.count("set $upswitch_uri $uri") == 2
    conf = read(both)
    assert differences(conf, jumps(conf)) == ()


def test_old_lines_are_named_for_removal_and_a_maintenance_page_is_none():
    named = f"location @d {{ keepalive_timeout 0; {PASS} }}"
    (_, location) = advice(read(server(f"location / {{ {JUMP} {PASS} }}", named)), OLD, ["app"], flag=FLAG)
    assert location.remove == (f"`if (-f {FLAG})` at /n.conf:3, and location @d at /n.conf:4",)
    page = "if (-f /srv/maintenance) { return 503; } error_page 503 @sorry;"
    assert jumps(read(server(f"location / {{ {page} {PASS} }}", "location @sorry { return 503; }")), flag=FLAG) == ()
