"""The drain lines on a real nginx: with the flag up every request is answered as with the flag down, and its connection closes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from drainkinds import KINDS, UPSTREAMS, Request, ask, backends, host, nginx_conf
from dumps import real_dump
from upswitch.cli.views import plan
from upswitch.nginx.drain_compare import differences, jumps
from upswitch.nginx.drain_lines import THROUGH, missing, passing, with_lines
from upswitch.nginx.dump import parse_dump
from upswitch_lab.process import Process, free_port, is_listening, until

PAST_A_PASSWORD = next(kind for kind in KINDS if "leads past a password" in kind.name)
UNSAME = (b"connection:", b"date:", b"expires:")


class Table:
    """All kinds behind one nginx: asked without the lines, then with them, with the flag down and up."""

    def __init__(self, nginx: str, folder: Path) -> None:
        folder.chmod(0o755)
        (folder / "passwords").write_text("u:{PLAIN}pw\n")
        self.flag = folder / "flag"
        port = free_port("127.0.0.1")
        with backends(folder) as (addresses, got):
            files = nginx_conf(folder, port, addresses)
            before = parse_dump(real_dump(nginx, folder, files))
            self.needed = missing(passing(before, UPSTREAMS), str(self.flag))
            with _nginx(nginx, folder, port):
                for kind in KINDS:
                    for request in kind.warm:
                        ask(port, request, host(kind), "warm")
                self.without = self._asked(port, got, "without")
            for name, text in files.items():
                files[name] = with_lines(text, [each for each in self.needed if each.file.endswith(f"/{name}")])
            self.conf = parse_dump(real_dump(nginx, folder, files))
            with _nginx(nginx, folder, port):
                self.down = self._asked(port, got, "down")
                self.flag.touch()
                self.up = self._asked(port, got, "up")
                got.clear()
                self.outside = [ask(port, Request(path), host(PAST_A_PASSWORD), "") for path in (THROUGH, f"{THROUGH}@gone")]
                self.got_outside = [*got]
        self.errors = (folder / "error.log").read_text()

    def _asked(self, port: int, got: list[bytes], key: str):
        """By kind: for each request the answers, and what the servers behind nginx were asked."""
        found = {}
        for kind in KINDS:
            found[kind.name] = []
            for request in kind.requests:
                got.clear()
                answers = ask(port, request, host(kind), key)
                found[kind.name].append((answers, sorted(got)))
        return found


@contextmanager
def _nginx(nginx: str, folder: Path, port: int) -> Iterator[None]:
    with (folder / "out").open("ab") as out:
        process = Process((nginx, "-p", str(folder), "-c", f"{folder}/nginx.conf", "-e", f"{folder}/error.log"), out=out)
    try:
        until(lambda: is_listening(f"127.0.0.1:{port}"), what="nginx")
        yield
    finally:
        process.end()


@pytest.fixture(scope="module")
def table(old_nginx, tmp_path_factory) -> Table:
    return Table(old_nginx, tmp_path_factory.mktemp("drain"))


def _same(answer: tuple[bytes, bytes]):
    head, body = answer
    return [line for line in head.split(b"\r\n") if not line.lower().startswith(UNSAME)], body


@pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])
def test_a_request_is_answered_as_without_the_lines_with_the_flag_down_and_up(table, kind):
    for number, request in enumerate(kind.requests):
        answers, asked = table.without[kind.name][number]
        for now in (table.down, table.up):
            assert [*map(_same, now[kind.name][number][0])] == [*map(_same, answers)], request
            assert now[kind.name][number][1] == asked, request


@pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])
def test_with_the_flag_up_the_connection_closes_or_we_say_that_there_is_no_cure(table, kind):
    for number in kind.closes:
        (head, _), *_ = table.up[kind.name][number][0]
        assert b"\r\nConnection: close" in head, kind.requests[number]
    said = [each.text for each in table.needed if each.no_cure]
    assert bool(kind.no_cure) == (kind.closes == ())
    assert not kind.no_cure or any(kind.no_cure in text and "requests lost per reload" in text for text in said)


def test_a_client_that_asks_for_the_address_of_our_location_gets_nothing_whatever_error_page_says(table):
    assert table.outside == [[(b"", b"")]] * 2
    assert table.got_outside == []


def test_the_written_lines_are_complete_and_make_no_difference(table):
    found = jumps(table.conf, flag=str(table.flag))
    assert len(found) > len(KINDS)
    assert differences(table.conf, found) == ()
    assert all(each.no_cure for each in missing(passing(table.conf, UPSTREAMS), str(table.flag)) if each.lines == ())
    assert [line for line in table.errors.splitlines() if "uninitialized" in line or "[alert]" in line or "cycle" in line] == []


NAMED_BY_REGEX = r"""# configuration file /etc/nginx/nginx.conf:
http {
    upstream app { server 127.0.0.1:1; }
    server {
        server_name NAME;
        location / { root /sites/$2; }
        location /api/ { proxy_pass http://app; }
        include shared.conf;
    }
    server { include shared.conf; }
}
# configuration file /etc/nginx/shared.conf:
location /shared/ { proxy_pass http://app; }
"""


@pytest.mark.parametrize("name", [r"~^(www\.)?(.+)$", r"~^(?<tenant>.+)$"])
def test_a_server_whose_name_sets_captures_gets_no_line_and_what_it_shares_gets_none_elsewhere(name):
    needed = missing(passing(parse_dump(NAMED_BY_REGEX.replace("NAME", name)), ("app",)), "/run/flag")
    of_locations = [each for each in needed if each.words[0] == "location"]
    assert [each.lines for each in of_locations] == [(), ()]
    assert all(f"`server_name {name}` sets $1" in each.text for each in of_locations)
    assert [each for each in needed if each.words[0] == "server"] == [], "no location would use its lines"


IN_HTTP = """# configuration file /etc/nginx/nginx.conf:
http {
    upstream app { server 127.0.0.1:1; }
    LINE
    server { server_name NAME; SERVER location / { proxy_pass http://app; } location ~ /(x) { proxy_pass http://app; } }
}
"""
NAMED = "~^(?<tenant>.+)$"


@pytest.mark.parametrize(
    ("line", "name", "server", "without"),
    [
        ("map $1 $shard { default 1; }", NAMED, "", ["/", "~ /(x)"]),
        ("map $host $shard { default $1; }", NAMED, "", ["/", "~ /(x)"]),
        ("log_format own $1;", NAMED, "", ["/", "~ /(x)"]),
        ("upstream other { hash $1; server 127.0.0.1:2; }", NAMED, "", ["/", "~ /(x)"]),
        ("map $host $shard { ~^(www)(.*) $2; }", NAMED, "", []),
        ("map $tenant $shard { default of-$tenant; } log_format own $tenant;", NAMED, "", []),
        ("log_format own $1;", "plain", "", []),
        ("log_format own $1;", "plain", "if ($http_x ~ ^(a|b)$) { set $x 1; }", ["/"]),
        ("log_format own $1;", "plain", "rewrite ^/old/(.*)$ /new/$1;", ["/"]),
        ("log_format own $1;", "plain", "rewrite ^/old$ /new;", []),
    ],
)
def test_a_use_of_numbered_captures_in_http_is_seen_where_this_server_sets_them(line, name, server, without):
    conf = parse_dump(IN_HTTP.replace("LINE", line).replace("NAME", name).replace("SERVER", server))
    needed = missing(passing(conf, ("app",)), "/run/flag")
    assert [" ".join(each.words[1:]) for each in needed if each.no_cure] == without
    assert bool([each for each in needed if each.lines]) == (without != ["/", "~ /(x)"])


def test_where_no_location_has_a_cure_nothing_is_to_be_added_and_no_line_is_printed():
    conf = parse_dump(IN_HTTP.replace("LINE", "log_format own $1;").replace("NAME", NAMED).replace("SERVER", ""))
    needed = missing(passing(conf, ("app",)), "/run/flag")
    text = plan.drain_lines(needed, is_needed=True, test="nginx -t").text
    assert text.startswith("Nothing to add: a reload loses a few requests, because no drain lines fit these locations\n")
    assert "upswitch_" not in text
