"""Where a configuration names servers beside our live generation."""

import pytest

from upswitch.nginx.dump import parse_dump
from upswitch.nginx.uses import uses

LIVE = "/etc/nginx/upswitch/live"


def found(text: str, *, file: str = "/etc/nginx/nginx.conf") -> list[str]:
    conf = parse_dump(f"# configuration file {file}:\n{text}\n\n")
    return [use.address for use in uses(conf, live=LIVE)]


@pytest.mark.parametrize(
    ("line", "addresses"),
    [
        ("proxy_pass http://127.0.0.1:8080;", ["127.0.0.1:8080"]),
        ("proxy_pass http://127.0.0.1:8080/base/;", ["127.0.0.1:8080"]),
        ("proxy_pass http://127.0.0.1:8080$request_uri;", ["127.0.0.1:8080"]),
        ("proxy_pass https://10.0.0.1;", ["10.0.0.1:443"]),
        ("proxy_pass http://localhost;", ["localhost:80"]),
        ("proxy_pass http://[::1]:8080/;", ["[::1]:8080"]),
        ("proxy_pass http://unix:/run/a.sock:/base;", ["unix:/run/a.sock"]),
        ("grpc_pass grpcs://db-1.example.org;", ["db-1.example.org:443"]),
        ("fastcgi_pass unix:/run/a.sock;", ["unix:/run/a.sock"]),
        ("set $backend 127.0.0.1:8080;", ["127.0.0.1:8080"]),
        ('set $backend "http://127.0.0.1:8080";', ["127.0.0.1:8080"]),
        ("proxy_pass http://app;", []),
        ("proxy_pass http://APP;", []),
        ("proxy_pass http://$backend;", []),
        ("return 200 ok;", []),
        ("add_header X-Time 10s;", []),
    ],
)
def test_every_form_in_which_a_location_names_a_server_is_read(line, addresses):
    text = f"http {{ upstream app {{ server 10.0.0.9:80; }} server {{ listen 10.0.0.9:80; location / {{ {line} }} }} }}"
    assert found(text) == ["10.0.0.9:80", *addresses]


def test_a_map_and_an_upstream_of_http_or_stream_name_servers_and_our_own_generation_does_not_count():
    text = "http { map $host $to { default 10.0.0.1:80; } upstream x { server 10.0.0.2; } } stream { upstream y { server a:5; } }"
    assert found(text) == ["10.0.0.1:80", "10.0.0.2:80", "a:5"]
    assert found(text, file=f"{LIVE}/app.conf") == []
