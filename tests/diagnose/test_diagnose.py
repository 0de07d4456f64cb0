"""`upswitch diagnose`, as the real command: on a live nginx in all sorts of trouble, and on files from elsewhere."""

import gzip
import os
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from command import Answer, upswitch
from failing import EACH_NGINX
from jsonpage import documented
from onlogs import diagnose
from servers import serving, tls, wait_for_close
from upswitch_lab.conf import Layout, block
from upswitch_lab.lab import Lab
from upswitch_lab.process import ask, free_port, until

BAD = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 3\r\n\r\napp"
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
ANY_TLS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
LEFT = 6
GONE_LINE = "location /gone { proxy_pass http://GONE; }"


def findings(answer: Answer) -> dict[str, dict]:
    return {finding["code"]: finding for finding in answer.json["findings"]}


# ---- a live host in trouble ----


class Trouble:
    """What happened to a laboratory's clients, and what `diagnose` says of it."""

    def __init__(self, stack: ExitStack, binary: str, folder: Path) -> None:
        self.port = free_port("127.0.0.1")
        self.hanging = stack.enter_context(serving(wait_for_close)).address
        self.own = stack.enter_context(serving(BAD)).address
        self.gone = stack.enter_context(serving(GOOD)).address
        self.tls, _ = (stack.enter_context(tls(_made(folder / name), ANY_TLS)) for name in ("theirs", "trusted"))
        self.lab = stack.enter_context(Lab(binary, Layout(http=(self._server(folder / "trusted" / "certificate.pem"),))))
        self._happen()
        self.answer = upswitch(self.lab, "diagnose")
        self.text = diagnose("-c", f"{self.lab.site_file}")

    def _server(self, trusted: Path) -> str:
        verify = f"proxy_ssl_verify on; proxy_ssl_trusted_certificate {trusted};"
        return block(
            "server",
            f"listen 127.0.0.1:{self.port};",
            f"location /slow {{\n proxy_read_timeout 300ms;\n proxy_pass http://{self.hanging}; }}",
            f"location /hang {{ proxy_pass http://{self.hanging}; }}",
            f"location /own {{ proxy_pass http://{self.own}; }}",
            f"location /tls {{ {verify} proxy_pass https://{self.tls}; }}",
            GONE_LINE.replace("GONE", self.gone),
        )

    def _happen(self) -> None:
        public = f"127.0.0.1:{self.port}"
        for path in ("/slow", "/own", "/own", "/tls", "/gone"):
            ask(public, path)
        with ThreadPoolExecutor(LEFT) as pool:
            list(pool.map(lambda _: _ask_and_leave(self.port), range(LEFT)))
        self.lab.backend("A", 1).kill()
        until(lambda: (self.lab.get()[0], b"refused" in self.lab.error_log.read_bytes())[1], what="a retry")
        until(lambda: self.lab.access_log.read_bytes().count(b'"499"') == LEFT, what="the lines of clients that left")
        conf = self.lab.folder / "nginx.conf"
        conf.write_text(conf.read_text().replace(GONE_LINE.replace("GONE", self.gone), ""))

    def line_of(self, text: str) -> str:
        """FILE:LINE of the one line of nginx.conf that holds `text`."""
        lines = (self.lab.folder / "nginx.conf").read_text().splitlines()
        return f"{self.lab.folder}/nginx.conf:{next(number for number, line in enumerate(lines, 1) if text in line)}"


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _ask_and_leave(port: int) -> None:
    """A client that waits 1.1 s in vain."""
    with socket.create_connection(("127.0.0.1", port)) as stream:
        stream.sendall(b"GET /hang HTTP/1.0\r\n\r\n")
        stream.settimeout(1.1)
        with pytest.raises(TimeoutError):
            stream.recv(1)


@pytest.fixture(scope="module", params=EACH_NGINX)
def trouble(request, tmp_path_factory):
    with ExitStack() as stack:
        yield Trouble(stack, request.param, tmp_path_factory.mktemp("trouble"))


def test_a_live_host_in_trouble_is_exit_3_and_each_cause_is_there(trouble):
    assert trouble.answer.exit == 3
    codes = {"connect_refused", "read_timeout", "upstream_answered", "tls_verify_failed", "client_closed"}
    assert codes <= set(findings(trouble.answer)), trouble.answer


def test_each_cause_names_its_servers(trouble):
    found = findings(trouble.answer)
    assert found["connect_refused"]["servers"] == [trouble.lab.backend("A", 1).address]
    assert found["upstream_answered"]["servers"] == [trouble.own]
    assert found["upstream_answered"]["count"] == 2
    assert found["tls_verify_failed"]["servers"] == [trouble.tls]


def test_a_failure_that_a_retry_hid_is_told_and_reached_no_client(trouble):
    refused = findings(trouble.answer)["connect_refused"]
    assert refused["count"] >= 1
    assert refused["clients"] == 0


def test_clients_that_left_a_hanging_server_are_told_with_the_server(trouble):
    left = findings(trouble.answer)["client_closed"]
    assert (left["count"], left["status"], left["servers"]) == (LEFT, 499, [trouble.hanging])
    assert left["why"].startswith("These servers hang.")


def test_the_directive_behind_a_cause_is_quoted_with_file_and_line(trouble):
    settings = findings(trouble.answer)["read_timeout"]["settings"]
    assert [each["text"] for each in settings if each["place"]] == [
        f"{trouble.line_of('proxy_read_timeout')}: proxy_read_timeout 300ms"
    ]
    verify = findings(trouble.answer)["tls_verify_failed"]["settings"]
    assert verify[0]["text"] == f"{trouble.line_of('proxy_ssl_verify')}: proxy_ssl_verify on"


def test_a_refused_server_is_quoted_from_the_live_generation(trouble):
    settings = findings(trouble.answer)["connect_refused"]["settings"]
    assert [each["value"] for each in settings] == [trouble.lab.backend("A", 1).address]
    assert "/upswitch/live/app.conf:" in settings[0]["place"]


def test_an_address_that_gets_requests_and_is_in_no_pool_is_told(trouble):
    assert [each for each in trouble.answer.json["problems"] if each.startswith(f"{trouble.gone} gets requests (1 ")]
    assert len(trouble.answer.json["problems"]) == 1, trouble.answer


def test_the_processes_at_failing_addresses_of_this_machine_are_named(trouble):
    found = {each["server"]: each for each in trouble.answer.json["listeners"]}
    gone = trouble.lab.backend("A", 1).address

    assert found[gone]["said"][0] == f"No program of this machine listens at {gone} now."
    assert found[trouble.own]["pid"] == os.getpid()
    assert set(found[gone]) == documented("Listener")
    assert f"  {trouble.own}\n    " in trouble.text.out


def test_each_server_is_asked_past_nginx_and_a_dead_one_is_told_with_who_listens(trouble):
    servers = {each["server"]: each for each in trouble.answer.json["servers"]}
    assert len(servers) == 4
    dead = servers.pop(trouble.lab.backend("A", 1).address)
    assert (dead["up"], dead["live"], dead["pool"]) == (False, True, "A")
    assert f"no program listens on port {trouble.lab.backend('A', 1).port} of this machine" in dead["text"]
    assert all(each["up"] for each in servers.values())


def test_the_text_begins_with_how_many_failed_and_the_worst_cause(trouble):
    first = trouble.text.out.splitlines()[0]
    assert trouble.text.exit == 3
    assert "requests failed (in 6 of them the client gave up) since 2" in first
    assert "Worst: 6 x client_closed" in first
    assert first.endswith(": These servers hang. Clients waited 1 s or more, got no answer and left.")
    assert first.startswith(f"FAILING now: {trouble.lab.backend('A', 1).address}. ")
    assert "  3 other servers answer\n" in trouble.text.out
    assert f"{trouble.lab.backend('A', 1).address} (app A)" in trouble.text.out
    assert f"({trouble.lab.error_log} " not in first
    assert f"Read: {trouble.lab.error_log} (error log, " in trouble.text.out


def test_files_with_the_site_say_whose_server_it_is_and_ask_nobody(trouble):
    words = ("--error-log", f"{trouble.lab.error_log}", "-c", f"{trouble.lab.site_file}")
    answer = diagnose(*words, "--json")
    assert answer.json["whose"][trouble.lab.backend("A", 1).address] == "app A"
    assert answer.json["servers"] == []
    assert diagnose(*words, "--live", "--json").json["servers"]


# ---- a live host in peace ----


def test_a_host_in_peace_is_exit_0_and_says_what_was_read(lab):
    for _ in range(3):
        lab.get()
    until(lambda: lab.access_log.read_bytes().count(b"\n") >= 3, what="the access lines")
    answer = diagnose("-c", f"{lab.site_file}")
    assert answer.exit == 0, answer
    first, *rest = answer.out.splitlines()
    assert first.startswith("Nothing found: 0 of ")
    assert f"Read: {lab.access_log} (access log, " in "\n".join(rest)
    assert "FAILING" not in answer.out
    assert "  4 servers answer\n" in answer.out


def test_lines_before_the_span_do_not_count(lab):
    lab.error_log.write_bytes(REFUSED.replace(b"2026/11/20", b"2020/01/01"))
    answer = upswitch(lab, "diagnose")
    assert answer.exit == 0, answer
    assert findings(upswitch(lab, "diagnose", "--since", "2019-12-31T00:00:00")).keys() == {"connect_refused"}


def test_a_configuration_that_does_not_pass_is_a_problem_and_the_error_log_is_read_all_the_same(lab):
    (lab.folder / "nginx.conf").write_text("nonsense;")
    answer = upswitch(lab, "diagnose")
    assert answer.exit == 3
    assert "nonsense" in answer.json["problems"][0]
    assert [each["kind"] for each in answer.json["read"]] == ["error"]


def test_a_name_that_leads_elsewhere_or_nowhere_now_is_a_problem(lab):
    text = lab.site_file.read_text()
    moved = text.replace(f'"{lab.backend("A", 1).address}"', '"localhost:1"')
    lab.site_file.write_text(moved.replace(f'"{lab.backend("B", 1).address}"', '"nowhere.invalid:80"'))
    problems = upswitch(lab, "diagnose").json["problems"]
    assert [each for each in problems if each.startswith("nowhere.invalid does not resolve now")]
    assert [each for each in problems if each.startswith("app: localhost lead to ") and lab.backend("A", 1).address in each]


def test_the_file_that_was_just_rotated_counts_too(lab):
    lab.backend("A", 1).kill()
    until(lambda: (lab.get(), b"refused" in lab.error_log.read_bytes())[1], what="a refused connection")
    lab.error_log.rename(f"{lab.error_log}.1")
    lab.error_log.touch()
    answer = upswitch(lab, "diagnose")
    assert "connect_refused" in findings(answer)
    assert [each["name"] for each in answer.json["read"]][:2] == [f"{lab.error_log}.1", f"{lab.error_log}"]


def test_a_server_that_left_its_address_is_seen_on_another(lab):
    """The app listens on another address of the machine than nginx asks."""
    server = lab.backend("A", 1)
    server.kill()
    with serving(GOOD, bound=("127.0.0.2", server.port)):
        answer = upswitch(lab, "diagnose")
    dead = next(each for each in answer.json["servers"] if each["server"] == server.address)
    assert f"127.0.0.2:{server.port} listens, not {server.address}" in dead["text"]
    assert answer.exit == 3
    assert answer.json["said"].startswith(f"FAILING now: {server.address}. No cause was found in the logs: 0 of ")


def test_servers_that_nginx_itself_checks_down_are_the_cause_of_no_live_upstreams(check_nginx):
    with Lab(check_nginx) as lab:
        for server in lab.pool("A"):
            server.mode("sick")
        until(lambda: lab.get()[0] == 502, what="nginx's own check to call both down")
        answer = upswitch(lab, "diagnose")
        for server in lab.pool("A"):
            server.kill()  # the module writes no further line about a refused connection
        for log in (lab.error_log, lab.access_log):
            log.write_bytes(b"")
        assert lab.get()[0] == 502
        later = upswitch(lab, "diagnose").json
    codes = [(each["code"], each["consequence_of"]) for each in answer.json["findings"]]
    assert codes == [("health_check_down", ""), ("no_live_all_down", "health_check_down")]
    assert [each["name"] for each in answer.json["findings"][0]["settings"]] == ["check"]
    assert later["findings"][0]["code"] == "health_check_down"
    assert "no_live_all_down" not in [each["code"] for each in later["findings"] if not each["consequence_of"]]
    assert any("failures in a row), so" in problem for problem in later["problems"])


# ---- files from elsewhere ----

REFUSED = (
    b"2026/11/20 10:00:00 [error] 7#7: *1 connect() failed (111: Connection refused) while connecting to upstream, "
    b'client: 10.1.1.1, server: , request: "GET / HTTP/1.1", upstream: "http://10.0.0.7:8080/", host: "a"\n'
)
LATER = REFUSED.replace(b"10:00:00", b"11:00:00").replace(b"10.0.0.7", b"10.0.0.8")
COMBINED = b'10.1.1.1 - - [20/Nov/2026:10:00:00 +0000] "GET / HTTP/1.1" 502 157 "-" "curl"\n'
TIMED = "$msec $status $upstream_addr $upstream_status $upstream_header_time"


def test_a_file_is_read_without_nginx_and_without_a_site_file(tmp_path):
    (tmp_path / "error.log").write_bytes(REFUSED)
    answer = diagnose("--error-log", "error.log", "--json", folder=tmp_path, path="")
    assert answer.exit == 3, answer
    assert findings(answer)["connect_refused"]["servers"] == ["10.0.0.7:8080"]


def test_stdin_and_gzip_are_read_and_gzip_is_seen_by_its_content(tmp_path):
    (tmp_path / "old.log").write_bytes(gzip.compress(REFUSED))
    answer = diagnose("--error-log", "-", "--error-log", "old.log", "--json", folder=tmp_path, stdin=LATER)
    assert findings(answer)["connect_refused"]["count"] == 2
    compressed = diagnose("--error-log", "-", "--json", stdin=gzip.compress(REFUSED))
    assert findings(compressed)["connect_refused"]["count"] == 1


def test_a_compressed_file_that_is_cut_off_is_read_as_far_as_it_goes(tmp_path):
    lines = b"".join(REFUSED.replace(b"*1 ", b"*%d " % number) for number in range(3000))
    (tmp_path / "cut.gz").write_bytes(gzip.compress(lines)[:-200])
    answer = diagnose("--error-log", "cut.gz", "--json", folder=tmp_path)
    assert findings(answer)["connect_refused"]["count"] > 1
    assert "cut off or damaged" in answer.json["notes"][0]


def test_a_last_line_without_its_newline_is_read_too(tmp_path):
    (tmp_path / "error.log").write_bytes(REFUSED + LATER.rstrip())
    assert findings(diagnose("--error-log", "error.log", "--json", folder=tmp_path))["connect_refused"]["count"] == 2


def test_the_last_minutes_of_files_are_those_that_stand_in_them(tmp_path):
    (tmp_path / "error.log").write_bytes(REFUSED + LATER)
    answer = diagnose("--error-log", "error.log", "--since", "10m", "--json", folder=tmp_path)
    assert findings(answer)["connect_refused"]["servers"] == ["10.0.0.8:8080"]
    assert answer.json["since"] == "2026/11/20 10:50:00"


def test_the_tail_of_a_large_file_is_found_without_its_start(tmp_path):
    (tmp_path / "error.log").write_bytes(REFUSED * 20000 + LATER)
    answer = diagnose("--error-log", "error.log", "--since", "10m", "--json", folder=tmp_path)
    assert findings(answer)["connect_refused"]["count"] == 1
    assert answer.json["read"][0]["lines"] < 15000


def test_no_finding_says_what_was_read(tmp_path):
    (tmp_path / "access.log").write_bytes(COMBINED.replace(b" 502 ", b" 200 ") * 5)
    answer = diagnose("--access-log", "access.log", folder=tmp_path)
    assert answer.exit == 0
    assert answer.out.splitlines()[0] == "Nothing found: 0 of 5 requests failed"
    assert "access.log (access log, 5 lines, 20/Nov/2026:10:00:00 +0000)" in answer.out


def test_the_first_line_says_what_followed_from_the_worst(tmp_path):
    follows = REFUSED.replace(b"connect() failed (111: Connection refused)", b"no live upstreams").replace(b"10.0.0.7:8080", b"app")
    (tmp_path / "error.log").write_bytes(REFUSED + follows * 9)
    answer = diagnose("--error-log", "error.log", folder=tmp_path)
    assert "Worst: 1 x connect_refused at 10.0.0.7:8080, then 9 x no_live_all_down: " in answer.out.splitlines()[0]


def test_an_access_log_without_a_line_leaves_the_word_to_the_error_log(tmp_path):
    (tmp_path / "error.log").write_bytes(REFUSED)
    (tmp_path / "access.log").write_bytes(b"")
    answer = diagnose("--error-log", "error.log", "--access-log", "access.log", "--log-format", "combined", folder=tmp_path)
    assert answer.out.startswith("1 of 1 lines of the error log report failures. Worst: 1 x connect_refused")
    assert "reached clients" not in answer.out


def test_both_logs_are_told_by_one_clock(tmp_path):
    """The access log has seconds since 1970; the span's zone is that of the machine that reads."""
    (tmp_path / "error.log").write_bytes(REFUSED)
    (tmp_path / "access.log").write_bytes(b"1795172400.000 502 10.0.0.7:8080 502 0.001\n")
    files = ("--error-log", "error.log", "--access-log", "access.log", "--log-format", TIMED)
    zoned = diagnose(*files, "--since", "2026-11-20T09:00:00", folder=tmp_path, zone="XXX-1")
    assert zoned.out.count("2026/11/20 10:00:00 +0100\n") + zoned.out.count("2026/11/20 12:00:00 +0100\n") == 2
    bare = diagnose(*files, folder=tmp_path)
    assert "when:  2026/11/20 10:00:00 (local time)\n" in bare.out
    assert "when:  2026/11/20 11:00:00 +0000\n" in bare.out


def test_a_usual_format_is_recognised(tmp_path):
    (tmp_path / "access.log").write_bytes(COMBINED)
    answer = diagnose("--access-log", "access.log", "--json", folder=tmp_path)
    assert answer.json["said"].startswith("1 of 1 requests failed")


def test_a_format_that_nobody_knows_is_asked_for(tmp_path):
    (tmp_path / "access.log").write_bytes(b"1795000000.000 502 10.0.0.7:8080 502 0.001\n")
    answer = diagnose("--access-log", "access.log", "--json", folder=tmp_path)
    assert answer.exit == 2
    assert "--log-format" in answer.json["said"]


@pytest.mark.parametrize("given", [TIMED, f"log_format x '{TIMED}';"])
def test_a_given_format_is_taken_as_text_or_as_the_line_of_the_configuration(tmp_path, given):
    (tmp_path / "access.log").write_bytes(b"1795000000.000 502 10.0.0.7:8080 502 0.001\n")
    answer = diagnose("--access-log", "access.log", "--log-format", given, "--json", folder=tmp_path)
    assert findings(answer)["upstream_answered"]["servers"] == ["10.0.0.7:8080"]


def test_benign_lines_alone_are_exit_0(tmp_path):
    line = (
        b"2026/11/20 10:00:00 [warn] 7#7: *1 an upstream response is buffered to a temporary file /t/1 while reading upstream, "
        b'client: 10.1.1.1, server: , request: "GET / HTTP/1.1", upstream: "http://10.0.0.7:8080/", host: "a"\n'
    )
    (tmp_path / "error.log").write_bytes(line)
    answer = diagnose("--error-log", "error.log", "--json", folder=tmp_path)
    assert answer.exit == 0
    assert list(findings(answer)) == []
    assert answer.json["said"].startswith("Nothing found: 0 of 1 lines")
    assert any("--all" in note for note in answer.json["notes"])
    assert "none_buffering_notice" in diagnose("--error-log", "error.log", "--all", folder=tmp_path).out


def test_what_a_client_wrote_forges_no_cause_and_reaches_no_terminal(tmp_path):
    forged = (
        b'2026/11/20 10:00:00 [error] 7#7: *1 open() "/www/x" failed (2: No such file or directory), client: 10.1.1.1, server: , '
        b'request: "GET /x HTTP/1.1", host: "a", referrer: "connect() failed (111: Connection refused) while connecting to '
        b'upstream, upstream: "http://10.6.6.6:80/", \x1b]0;owned\x07\xe2\x80\xae"\n'
    )
    (tmp_path / "error.log").write_bytes(forged + REFUSED.replace(b'host: "a"', b'host: "\x1b[31m\xe2\x80\xae"'))
    answer = diagnose("--error-log", "error.log", folder=tmp_path)
    assert "10.6.6.6" not in answer.out
    assert answer.out.isascii()
    assert all(char.isprintable() or char == "\n" for char in answer.out)
    assert "\\x1b[31m" in answer.out


# ---- words ----


@pytest.mark.parametrize(
    "words",
    [
        ("--error-log", "nowhere.log"),
        ("--error-log", "/"),
        ("--access-log", "nowhere.log"),
        ("--error-log", "/dev/null", "--since", "yesterday"),
        ("--error-log", "-", "--access-log", "-"),
        ("-c", "nowhere.toml"),
        ("--error-log", "/dev/null", "-c", "nowhere.toml"),
        (),
    ],
    ids=" ".join,
)
def test_a_usage_error_is_exit_2(words, tmp_path):
    answer = diagnose(*words, folder=tmp_path)
    assert answer.exit == 2, answer
    assert "Traceback" not in answer.err + answer.out


def test_an_empty_log_is_no_finding(tmp_path):
    (tmp_path / "empty").touch()
    answer = diagnose("--error-log", "empty", "--access-log", "empty", "--json", folder=tmp_path)
    assert answer.exit == 0
    assert answer.json["findings"] == []


def test_what_is_printed_is_what_the_page_says(tmp_path):
    (tmp_path / "error.log").write_bytes(REFUSED)
    answer = diagnose("--error-log", "error.log", "--json", folder=tmp_path)
    assert set(answer.json) == documented("DiagnoseView")
    assert set(answer.json["findings"][0]) == documented("Finding")


def test_what_followed_from_the_failures_of_a_release_that_was_taken_back_is_tied_to_them(any_nginx):
    with Lab(any_nginx) as lab:
        for number in (1, 2):
            lab.backend("B", number).restart("--fail-after", "0.5", "--fail-mode", "close")
        with lab.load("--connections", "8", "--rate", "200"):
            assert upswitch(lab, "switch", "--to", "B").exit == 4
            findings = upswitch(lab, "diagnose").json["findings"]
    found = [(each["code"], each["consequence_of"]) for each in findings]
    assert found[:2] == [("upstream_premature_close", ""), ("no_live_all_down", "upstream_premature_close")]
