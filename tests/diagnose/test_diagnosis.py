"""What the logs of real nginxes say together, and that counting at full speed says what reading line by line says."""

import socket
import time
from collections import Counter

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from frontend import frontend
from servers import asked_then, reset, serving, wait_for_close
from upswitch.cli.views.diagnose import diagnosed
from upswitch.diagnose.causes import cause_of
from upswitch.diagnose.count_access import Access, AccessCounter, Wrong
from upswitch.diagnose.count_errors import ErrorCounter, Errors
from upswitch.diagnose.diagnose import Diagnosis, diagnose, sentence
from upswitch.diagnose.directives import Known
from upswitch.diagnose.evidence import OTHERS, UNEXPLAINED, shown
from upswitch.diagnose.run import Diagnosed
from upswitch.hosts.count_program import Alike
from upswitch.logs.entries import EntryCounter
from upswitch.logs.error_line import failure_of, parse_error
from upswitch.logs.line import compile_format
from upswitch_lab.process import free_port

FULL = (
    '$remote_addr [$time_local] "$request" $status $request_time "$upstream_addr" "$upstream_status" "$upstream_connect_time" '
    '"$upstream_header_time" "$upstream_bytes_sent" "$request_completion"'
)
SHORT = compile_format("$msec $status [$upstream_addr]")
COMBINED = compile_format("combined")
READER = compile_format(FULL)
CONNECTING, READING = b"while connecting to upstream", b"while reading response header from upstream"
REFUSED = b"connect() failed (111: Connection refused) " + CONNECTING
NO_LIVE = b"no live upstreams " + CONNECTING
CLOSED = b"upstream prematurely closed connection " + READING
TIMEOUT = b"upstream timed out (110: Connection timed out) " + READING
APP = b"127.0.0.1:8001"


def error_line(cause, *, server=APP, at=0, method=b"GET", level=b"error"):
    upstream = b', upstream: "http://%s/x"' % server if server else b""
    head = b"2026/11/20 17:%02d:%02d [%s] 7#7: *4 " % (*divmod(at, 60), level)
    return head + cause + b', client: 10.0.0.9, server: _, request: "%s /x HTTP/1.1"%s, host: "x"' % (method, upstream)


def errors(*lines, **words):
    counter = ErrorCounter(**words)
    counter.count(b"".join(line + b"\n" for line in lines))
    return counter.found()


def access_line(status, *, at=0, request=b"GET /x HTTP/1.1", **upstream):
    words = {"time": b"0.004", "addr": APP, "us": status, "uct": b"0.000", "uht": b"0.003", "ubs": b"80", "done": b"OK"} | upstream
    head = b'10.0.0.9 [20/Nov/2026:17:%02d:%02d +0000] "%s" %s ' % (*divmod(at, 60), request, status)
    return head + b'%(time)b "%(addr)b" "%(us)b" "%(uct)b" "%(uht)b" "%(ubs)b" "%(done)b"' % {
        key.encode(): value for key, value in words.items()
    }


OWN = {"uht": b"-", "uct": b"-", "ubs": b"0"}


def access(*lines, reader=READER, **words):
    counter = AccessCounter(reader, **words)
    counter.count(b"".join(line + b"\n" for line in lines))
    return counter.found()


def codes(diagnosis):
    return [(each.code, each.count, each.consequence_of) for each in diagnosis.findings]


# ---- the error log, counted ----

CAUSES = st.sampled_from(
    [
        REFUSED,
        NO_LIVE,
        CLOSED,
        TIMEOUT,
        b"connect() to unix:/a,b failed (2: No such file or directory) " + CONNECTING,
        b'open() "/srv/a.php" failed (2: No such file or directory)',
        b'open() "/srv/b, client: 1, server: , request: "G / HTTP/1.0", upstream: "http://6.6.6.6/" failed (2: No such)',
        b'limiting requests, excess: 5.123 by zone "one"',
        b'limiting requests, excess: 6.001 by zone "one"',
        b"client intended to send too large body: 12 bytes",
        b"an upstream response is buffered to a temporary file /t/1/00/0000000001 while reading upstream",
        b"upstream sent too big header " + READING,
        b'upstream sent invalid header: "a: , client: b" ' + READING,
        b"upstream said moo, and died " + READING,
        b"app could not be resolved (3: Host not found)",
        b"*5 *6 odd",
        b"",
    ]
)
TAILS = st.sampled_from(
    [
        b', client: 1.1.1.1, server: _, request: "GET / HTTP/1.1", upstream: "http://a:1/", host: "x"',
        b', client: 1.1.1.1, server: _, request: "POST / HTTP/1.1", upstream: "http://unix:/s:/", host: "x"',
        b', client: 1.1.1.1, server: _, request: "PATCH /a b HTTP/1.1", upstream: "http://a:1/"',
        b', client: 1.1.1.1, server: _, request: "GET /" HTTP/1.1", subrequest: "/auth", upstream: "fastcgi://a:2", host: "x"',
        b', client: 1.1.1.1, server: _, request: "GET / HTTP/1.1", subrequest: "/a b", upstream: "http://a:3/"',
        b', client: 1.1.1.1, server: _, request: "GET / HTTP/1.1", host: ", upstream: "http://6.6.6.6/"',
        b', client: 1.1.1.1, server: _, request: "GET / HTTP/1.1", upstream: "http://unix://a:4/"',
        b", client: 1.1.1.1, server: 0.0.0.0:80",
        b', client: 1.1.1.1, server: _, request: "GET /%s HTTP/1.1", upstream: "http://a:5/"' % (b"x" * 2000),
        b', client: unix:, server: "', b', client: , server: , request: "G / HTTP/1.1", upstream: "', b"",
    ]
)  # fmt: skip
HEADS = st.sampled_from(
    [b"2026/11/20 17:00:01 [error] 7#7: *4 ", b"2026/11/20 17:00:02 [crit] 7#7: ", b"0000/99/99 00:00:00 [a] 0#0: *1 *2 ", b"2026/"]
)
WRITTEN = st.builds(lambda *parts: b"".join(parts), HEADS, CAUSES, TAILS)
MANGLED = st.builds(lambda line, at, noise: line[:at] + noise + line[at:], WRITTEN, st.integers(0, 300), st.binary(max_size=3))
ERROR_LINES = st.lists(WRITTEN | MANGLED | st.binary(max_size=60), max_size=12).map(
    lambda lines: [part for line in lines for part in line.split(b"\n")]
)


def read_one_by_one(lines):
    counts, firsts = Counter(), {}
    for line in lines:
        parsed = parse_error(line)
        if parsed and (code := cause_of(parsed)):
            kinds = [(code, "", parsed.upstream)]
        else:
            kinds = [(None, *failed)] if (failed := failure_of(line)) else []
        for kind in kinds:
            counts[kind] += 1
            firsts.setdefault(kind, line)
    return counts, firsts


@given(ERROR_LINES, st.integers(1, 5))
@example([error_line(REFUSED), error_line(REFUSED, method=b"POST"), b"a continuation", error_line(REFUSED)], 2)
def test_counting_blocks_of_an_error_log_gives_what_reading_its_lines_gives(lines, cut):
    counter = ErrorCounter()
    for start in range(0, len(lines), cut):
        counter.count(b"".join(line + b"\n" for line in lines[start : start + cut]))
    found = counter.found()
    counts, firsts = read_one_by_one(lines)
    assert {(each.code, each.words, each.server): each.count for each in found.counts} == counts
    assert found.unread == sum(parse_error(line) is None for line in lines)
    assert found.lines == len(lines) - found.unread
    for each in found.counts:
        first = firsts[each.code, each.words, each.server]
        assert each.first <= first[:19].decode() <= each.last
        assert each.evidence.isascii()
        assert each.evidence.isprintable()
        assert len(each.evidence) <= 300
        assert each.evidence in {shown(line) for line in lines}


def test_only_lines_of_the_span_count():
    lines = [error_line(REFUSED, at=at) for at in range(10)]
    found = errors(*lines, since="2026/11/20 17:00:03", until="2026/11/20 17:00:05")
    (refused,) = found.counts
    assert (refused.count, refused.first, refused.last) == (3, "2026/11/20 17:00:03", "2026/11/20 17:00:05")
    assert found.lines == 3


def test_forged_upstreams_without_number_fill_no_memory_and_are_counted_together():
    found = errors(*(error_line(REFUSED, server=b"a:%d" % number) for number in range(2000)))
    assert len(found.counts) < 600
    assert sum(each.count for each in found.counts) == 2000
    assert OTHERS in {each.server for each in found.counts}


# ---- the access log, counted ----

STATUSES = st.sampled_from([b"200", b"206", b"304", b"404", b"499", b"500", b"502", b"503", b"504", b"000", b"009"])
ACCESS = st.builds(
    access_line,
    STATUSES,
    request=st.sampled_from([b"GET /a HTTP/1.1", b"POST /b HTTP/1.1", b"-", b"", b"\\x16\\x03", b"GET /\\x22 HTTP/1.1"]),
    time=st.sampled_from([b"0.000", b"0.999", b"1.000", b"60.001"]),
    addr=st.sampled_from([APP, b"-", b"pool", b"a:1, b:2", b"a:1 : b:2", b"a:1, b:2 : c:3"]),
    us=st.sampled_from([b"200", b"502", b"-", b"", b"502, 200", b"502, 504", b"502 : ", b"502 : 200", b"503, 502 : 200", b"499"]),
    uct=st.sampled_from([b"0.000", b"0.010", b"10.000", b"-", b"-, 0.000", b"0.000, 0.000"]),
    uht=st.sampled_from([b"0.003", b"12.345", b"-", b"", b"-, 0.003", b"0.003, 0.456", b"-, -", b"- : 0.001", b"- : "]),
    ubs=st.sampled_from([b"0", b"80", b"-", b"0, 80", b"80, 0", b"-, 0, 9", b""]),
    done=st.sampled_from([b"OK", b""]),
    at=st.integers(0, 100),
)
ACCESS_LINES = st.lists(ACCESS | st.sampled_from([b"", b"other", b'"']), max_size=20).map(
    lambda lines: sorted(lines, key=lambda line: line[:38])  # by time
)


def read_each(counter, reader, lines):
    """One by one, exactly."""
    for line in lines:
        counter.add(EntryCounter(reader, is_for_diagnosis=True).count(b"", [Alike(line=line, times=1, is_good=False)]))


@given(ACCESS_LINES, st.integers(1, 7))
def test_counting_blocks_of_an_access_log_gives_what_counting_its_lines_gives(lines, cut):
    whole, exact = AccessCounter(READER), AccessCounter(READER)
    for start in range(0, len(lines), cut):
        whole.count(b"".join(line + b"\n" for line in lines[start : start + cut]))
    read_each(exact, READER, [line + b"\n" for line in lines])

    def comparable(found):
        counts = {(each.wrong, each.server, each.status, each.is_last): each for each in found.counts}
        return counts, msgspec.structs.replace(found, counts=())

    assert comparable(whole.found()) == comparable(exact.found())


@pytest.mark.parametrize("between", [" ", ",", ", ", " : ", " : -, 0", ".5", "-"])
@given(
    st.lists(
        st.sampled_from([b"-", b"0.003", b"0.003, 0.456", b"-, 0.003", b"0.100 : 0.200", b"- : ", b""]), min_size=1, max_size=3
    )
)
def test_the_end_of_a_list_is_found_as_by_reading_the_line_whatever_stands_behind_it(between, values):
    reader = compile_format(f"$status $upstream_status $upstream_addr $upstream_header_time{between}$msec $upstream_bytes_sent")
    lines = [b"502 502 a:1 %b%b1795000000.000 0\n" % (each, between.encode()) for each in values]
    whole, exact = AccessCounter(reader), AccessCounter(reader)
    whole.count(b"".join(lines))
    read_each(exact, reader, lines)
    assert whole.found() == exact.found()


def test_every_request_counts_with_its_servers_and_whether_it_failed():
    found = access(b"1.000 200 [a:1]", b"1.500 502 [a:1, b:1 : c:1]", b"2.000 499 [-]", b"", b"2.000 000 [a:1]", reader=SHORT)
    assert (found.requests, found.failed, found.unread) == (4, 2, 1)
    assert found.peers == {"a:1": 3, "b:1": 1, "c:1": 1}
    assert (found + found).peers["a:1"] == 6


@pytest.mark.parametrize(
    ("variable", "time"),
    [("$msec", b"1795000000.000"), ("$time_iso8601", b"2026-11-18T11:06:40+00:00"), ("$time_local", b"18/Nov/2026:12:06:40 +0100")],
)
@pytest.mark.parametrize("status", [b"200", b"502"])
def test_requests_before_the_span_do_not_count(variable, time, status):
    reader = compile_format(f"{variable} $status")
    began = [access(b"%b %b" % (time, status), reader=reader, span=range(at, 1 << 40)).requests for at in (1795000000, 1795000001)]
    assert began == [1, 0]


def test_a_span_of_the_access_log_has_the_seconds_by_the_logs_own_zone():
    lines = [access_line(b"502", at=at, us=b"502") for at in range(10)] + [
        access_line(b"200", at=at, us=b"200") for at in range(10)
    ]
    began = 1795194000  # 2026-11-20 17:00:00 UTC
    found = access(*lines, span=range(began + 3, began + 6))
    assert found.requests == 6
    assert [(each.count, each.first, each.last) for each in found.counts] == [
        (3, "20/Nov/2026:17:00:03 +0000", "20/Nov/2026:17:00:05 +0000")
    ]


@pytest.mark.parametrize(
    ("line", "troubles"),
    [
        (access_line(b"200", us=b"200"), []),
        (access_line(b"502", us=b"502"), [(Wrong.ANSWERED, "127.0.0.1:8001", 502, True)]),
        (access_line(b"502", us=b"502", **OWN), [(Wrong.OURS, "127.0.0.1:8001", 502, True)]),
        (access_line(b"200", us=b"502", uht=b"-"),
         [(Wrong.OURS, "127.0.0.1:8001", 502, True), (Wrong.DIED, "127.0.0.1:8001", 502, True)]),
        (access_line(b"200", addr=b"a:1, b:2", us=b"504, 200", uht=b"-, 0.001"), [(Wrong.OURS, "a:1", 504, False)]),
        (access_line(b"200", addr=b"a:1 : b:2", us=b"503 : 200", uht=b"0.100 : 0.001"), [(Wrong.ANSWERED, "a:1", 503, False)]),
        (access_line(b"200", addr=b"a:1 : ", us=b"502 : ", uht=b"- : ", ubs=b"0"), [(Wrong.OURS, "a:1", 502, True)]),
        (access_line(b"503", addr=b"-", us=b"-", uht=b"-"), [(Wrong.UNASKED, "", 503, True)]),
        (access_line(b"499", us=b"-", uht=b"-", time=b"1.000"), [(Wrong.LEFT, "127.0.0.1:8001", 499, True)]),
        (access_line(b"499", us=b"-", uht=b"-", time=b"0.999"), []),
        (access_line(b"499", us=b"200", uht=b"0.500", time=b"9.000"), []),
        (access_line(b"499", addr=b"-", us=b"-", uht=b"-", time=b"9.000"), []),
        (access_line(b"200", us=b"200", done=b""), [(Wrong.CUT, "127.0.0.1:8001", 200, True)]),
        (access_line(b"000", us=b"-", uht=b"-", done=b""), [(Wrong.SHUT, "127.0.0.1:8001", 0, True)]),
        (access_line(b"009", us=b"009", uht=b"0.001"), [(Wrong.RAW, "127.0.0.1:8001", 9, True)]),
        (access_line(b"502", us=b"502", uht=b"-", request=b"POST / HTTP/1.1"),
         [(Wrong.OURS, "127.0.0.1:8001", 502, True), (Wrong.RACED, "127.0.0.1:8001", 502, True)]),
        (access_line(b"502", us=b"502", uht=b"-", uct=b"10.000", request=b"POST / HTTP/1.1"),
         [(Wrong.OURS, "127.0.0.1:8001", 502, True)]),
    ],
)  # fmt: skip
def test_what_went_wrong_with_a_request_is_in_the_upstream_variables(line, troubles):
    assert sorted((each.wrong, each.server, each.status, each.is_last) for each in access(line).counts) == sorted(troubles)


def test_a_format_says_what_it_can_not_tell():
    assert Access().limits == ()
    assert access(reader=READER).limits == ()
    limits = access(reader=COMBINED).limits
    assert len(limits) == 2
    assert "clients that left a hanging server" in limits[0]
    assert "keep-alive races" in limits[0]
    assert "$request_time" in limits[1]
    assert "$status" not in limits[1]
    # the others are still told
    (finding,) = diagnose(
        None, access(b'1.1.1.1 - - [20/Nov/2026:17:00:00 +0000] "GET / HTTP/1.1" 502 1 "-" "x"', reader=COMBINED)
    ).findings
    assert (finding.code, finding.count) == (UNEXPLAINED, 1)


SECRETS = ("QUERY", "PASSWORD", "HEADER", "COOKIE", "NAME", "MAPPED")


def test_no_line_of_the_error_log_is_shown_with_a_query_or_userinfo():
    upstream = b'upstream: "http://me:PASSWORD@a:1/x?t=QUERY", host: "x", referrer: "https://NAME:PASSWORD@h/?t=QUERY"'
    line = error_line(REFUSED, server=b"").replace(b"/x HTTP", b"/x?t=QUERY&u HTTP").replace(b'host: "x"', upstream)
    (found,) = errors(line).counts
    assert not [secret for secret in SECRETS if secret in found.evidence]
    assert found.evidence.endswith(
        'request: "GET /x?... HTTP/1.1", upstream: "http://...@a:1/x?...", host: "x", referrer: "https://...@h/?..."'
    )


@pytest.mark.parametrize("escape", ["default", "json", "none"])
def test_of_a_line_of_the_access_log_only_what_holds_no_secret_is_shown(escape):
    variables = '"$http_authorization" "$cookie_id" "$sent_http_set_cookie" "$args" "$mine" "$http_referer" "$request" $status'
    reader = compile_format(f"$remote_user [$time_local] {variables}", escape)
    values = (
        b'"Bearer HEADER" "COOKIE" "id=COOKIE" "t=QUERY" "MAPPED" "https://u:PASSWORD@h/?q=a QUERY" "GET /x?a=b QUERY HTTP/1.1" 502'
    )
    (found,) = access(b"NAME [20/Nov/2026:17:00:00 +0000] " + values, reader=reader).counts
    assert not [secret for secret in SECRETS if secret in found.evidence]
    masked = '"..." "..." "..." "..." "..."'
    if escape != "none":
        assert found.evidence == (f'... [20/Nov/2026:17:00:00 +0000] {masked} "https://...@h/?..." "GET /x?... HTTP/1.1" 502')


def test_lines_of_another_format_cost_time_in_proportion():
    reader = compile_format("$remote_addr|$time_iso8601|$status|$upstream_addr|$upstream_status|$request")
    lines = [b'1.2.3.4 - - [21/Nov/2026:10:00:00 +0000] "GET /a HTTP/1.1" 200 150 "-" "curl"'] * 13000
    began = time.process_time()
    assert access(*lines, reader=reader).unread == len(lines)
    assert time.process_time() - began < 2  # 14 s and more by a walk over the whole block


@pytest.mark.parametrize("request_", ['"$request"', "$request_method $request_uri"])
def test_methods_that_a_client_makes_up_are_one_kind(request_):
    reader = compile_format(f"{request_} $status $upstream_addr $upstream_status $upstream_connect_time $upstream_bytes_sent")
    methods = [bytes([65 + number // 26 % 26, 65 + number % 26]) * 3 for number in range(676)] + [b"POST", b"POSTE", b"-", b"LOCK"]
    quote = b'"' * request_.count('"', 0, 1)
    lines = EntryCounter(reader, is_for_diagnosis=True).count(
        b"".join(b"%b%b /x%b 502 a:1 502 0.000 9\n" % (quote, method, quote) for method in methods)
    )
    assert sum(each.times for each in lines) == len(methods)
    assert len(lines) <= 26 + 3


def test_a_quote_that_nginx_escaped_ends_no_query():
    reader = compile_format('"$request_uri" $status', "json")
    (found,) = access(b'"/x?t=\\"QUERY" 502', reader=reader).counts
    assert found.evidence == '"/x?..." 502'


# ---- both, together ----


def test_no_live_upstreams_stands_behind_the_failures_before_it_and_weighs_with_them():
    lines = [error_line(TIMEOUT, server=b"b:2", at=at) for at in range(20)]
    lines += [error_line(REFUSED, at=30), *(error_line(NO_LIVE, server=b"pool", at=31 + at % 9) for at in range(90))]
    found = diagnose(errors(*lines))
    assert codes(found) == [
        ("connect_refused", 1, ""),
        ("no_live_all_down", 90, "connect_refused"),
        ("read_timeout", 20, ""),
    ]
    assert sentence(found).startswith("1 x connect_refused at 127.0.0.1:8001 (Nothing listens")
    assert "; 90 x no_live_all_down at pool (follows from connect_refused); 20 x read_timeout at b:2" in sentence(found)


@pytest.mark.parametrize(
    ("at", "words", "known", "code", "cause"),
    [
        (10, {}, Known(), "no_live_all_down", "connect_refused"),
        (11, {}, Known(), "no_live_all_down", ""),
        (11, {"fail_timeout_s": 30}, Known(), "no_live_all_down", "connect_refused"),
        (1, {"addresses": {"pool": frozenset({"b:2"})}}, Known(), "no_live_all_down", ""),
        (1, {"addresses": {"pool": frozenset({"127.0.0.1:8001"})}}, Known(), "no_live_all_down", "connect_refused"),
        (99, {}, Known(max_conns=frozenset({"pool"})), "max_conns", ""),
        (99, {}, Known(checked=frozenset({"pool"})), "health_check_not_yet_up", ""),
        (99, {}, Known(checked=frozenset({"pool"}), failing=frozenset({"pool"})), "health_check_down", ""),
        (5, {}, Known(failing=frozenset({"pool"})), "no_live_all_down", "connect_refused"),
        (99, {}, Known(checked=frozenset({"other"})), "no_live_all_down", ""),
        (5, {}, Known(max_conns=frozenset({"pool"})), "no_live_all_down", "connect_refused"),
    ],
)  # fmt: skip
def test_no_live_upstreams_is_a_consequence_of_failures_of_its_own_servers_within_fail_timeout(at, words, known, code, cause):
    found = diagnose(errors(error_line(REFUSED), error_line(NO_LIVE, server=b"pool", at=at), **words), None, known)
    assert (code, 1, cause) in codes(found)


def test_a_check_that_failed_explains_no_live_upstreams_for_longer():
    check = b"2026/11/20 17:00:00 [error] 7#0: check time out with peer: 127.0.0.1:8001 "
    found = diagnose(errors(check, error_line(NO_LIVE, server=b"pool", at=59)))
    assert codes(found) == [("health_check_down", 1, ""), ("no_live_all_down", 1, "health_check_down")]
    assert found.findings[0].servers == ("127.0.0.1:8001",)


def test_the_apps_own_502s_are_told_from_those_of_nginx():
    log = [access_line(b"502", us=b"502", **OWN)] * 3 + [access_line(b"502", us=b"502")] * 2
    assert codes(diagnose(errors(*[error_line(REFUSED)] * 3), access(*log))) == [
        ("connect_refused", 3, ""),
        ("upstream_answered", 2, ""),
    ]


def test_without_header_times_what_has_no_error_line_is_the_apps_own():
    reader = compile_format('$status "$upstream_addr" "$upstream_status"')
    log = [b'502 "127.0.0.1:8001" "502"'] * 5
    found = diagnose(errors(*[error_line(REFUSED)] * 3), access(*log, reader=reader))
    assert codes(found) == [("connect_refused", 3, ""), ("upstream_answered", 2, "")]
    (only,) = diagnose(None, access(*log, reader=reader)).findings
    assert (only.code, only.count, "$upstream_header_time" in only.fix) == (UNEXPLAINED, 5, True)


def test_without_header_times_lines_cut_before_the_server_are_nginxs_own():
    reader = compile_format('$status "$upstream_addr" "$upstream_status"')
    log = [b'502 "127.0.0.1:8001" "502"'] * 5 + [b'502 "-" "-"'] * 2
    cut = [error_line(REFUSED, server=b"")] * 3 + [error_line(b"app could not be resolved (3: Host not found)", server=b"")] * 2
    answered = {each.code: each.count for each in diagnose(errors(*cut), access(*log, reader=reader)).findings}
    assert answered["upstream_answered"] == 2


def test_without_header_times_an_empty_error_log_does_not_say_whose_a_502_is():
    reader = compile_format('$status "$upstream_addr" "$upstream_status"')
    (only,) = diagnose(Errors(), access(b'502 "127.0.0.1:8001" "502"', reader=reader)).findings
    assert (only.code, only.count, "$upstream_header_time" in only.fix) == (UNEXPLAINED, 1, True)


def test_lines_of_the_error_log_that_the_access_log_does_not_bear_out_are_said_to_be_doubtful():
    log = [access_line(b"502", us=b"502", **OWN)] * 3
    (finding,) = diagnose(errors(*[error_line(REFUSED)] * 40), access(*log)).findings
    assert (finding.count, finding.clients) == (40, 3)
    assert finding.note.startswith("The access log shows 3 of these 40. ")
    assert finding.note.endswith("a URI forged lines of the error log.")


OUT = b"1024 worker_connections are not enough"


def test_errors_of_nginxs_own_that_the_access_log_does_not_bear_out_come_last():
    log = [access_line(b"502", us=b"502", **OWN)] * 3 + [access_line(b"500", addr=b"-", us=b"-", uht=b"-")] * 2
    said = errors(*[error_line(REFUSED)] * 3, *[error_line(OUT, server=b"", level=b"alert")] * 200)
    refused, out = diagnose(said, access(*log)).findings
    assert (refused.code, refused.clients) == ("connect_refused", 3)
    assert (out.code, out.count, out.clients) == ("worker_connections", 200, 2)
    assert out.note.startswith("The access log shows 2 of these 200. ")
    (borne_out,) = diagnose(errors(*[error_line(OUT, server=b"", level=b"alert")] * 2), access(*log[3:])).findings
    assert (borne_out.clients, borne_out.note) == (2, "")


def test_servers_without_number_do_not_end_the_weighing():
    forged = [error_line(REFUSED, server=b"10.1.%d.%d:80" % divmod(number, 256)) for number in range(900)]
    log = [access_line(b"502", us=b"502", **OWN)] * 3
    (found,) = diagnose(errors(*forged, *[error_line(REFUSED)] * 3), access(*log)).findings
    assert (found.count, found.clients) == (903, 3)
    assert found.note.startswith("The access log shows 3 of these 903. ")


@pytest.mark.parametrize("known", [{"peers": ("127.0.0.1:8001",)}, {"addresses": {"pool": frozenset({"127.0.0.1:8001"})}}])
def test_a_server_that_is_known_is_told_of_whatever_was_forged_before(known):
    forged = [error_line(TIMEOUT, server=b"10.1.%d.%d:80" % divmod(number, 256)) for number in range(900)]
    said = errors(*forged, *[error_line(REFUSED)] * 50, **known)
    found = diagnose(said, access(*[access_line(b"502", us=b"502", **OWN)] * 50)).findings
    assert [each.code for each in found] == ["connect_refused", "read_timeout"]
    assert (found[0].clients, found[0].servers) == (50, ("127.0.0.1:8001",))
    assert found[1].clients == 0


def test_what_a_retry_hid_hurt_no_client_and_comes_last():
    log = [access_line(b"200", addr=APP + b", b:2", us=b"502, 200", uct=b"-, 0.001", uht=b"-, 0.001", ubs=b"0, 80")] * 9
    log += [access_line(b"504", addr=b"b:2", us=b"504", uht=b"-")]
    found = diagnose(errors(*[error_line(REFUSED)] * 9, error_line(TIMEOUT, server=b"b:2")), access(*log))
    assert codes(found) == [("read_timeout", 1, ""), ("connect_refused", 9, "")]
    assert (found.findings[1].clients, found.findings[1].rank) == (0, 2)
    assert found.findings[1].note == "After 9 of these 9 nginx asked another server."


RETRIED = {"addr": APP + b", b:2", "us": b"502, 200", "uct": b"-, 0.001", "uht": b"-, 0.001", "ubs": b"0, 80"}


def test_each_failed_attempt_is_told_of_one_cause():
    """Ten timeouts hurt clients; of six refused and two closed connections at the same server half were tried again."""
    said = errors(*[error_line(TIMEOUT)] * 10, *[error_line(REFUSED)] * 6, *[error_line(CLOSED)] * 2)
    log = [access_line(b"504", us=b"504", uht=b"-")] * 10
    log += [access_line(b"502", us=b"502", **OWN)] * 4 + [access_line(b"200", **RETRIED)] * 4
    found = {each.code: (each.count, each.clients, each.note) for each in diagnose(said, access(*log)).findings}
    assert found == {
        "read_timeout": (10, 10, ""),
        "connect_refused": (6, 3, "After 3 of these 6 nginx asked another server."),
        "upstream_premature_close": (2, 1, "After 1 of these 2 nginx asked another server."),
    }


def test_an_access_log_without_a_request_says_nothing_against_the_error_log():
    (finding,) = diagnose(errors(*[error_line(REFUSED)] * 4), access()).findings
    assert (finding.clients, finding.note) == (4, "")


POSTED = {"request": b"POST / HTTP/1.1", "us": b"502", "uht": b"-"}


def test_a_post_that_failed_at_once_on_a_kept_connection_is_likely_a_race():
    both = errors(*[error_line(CLOSED, method=b"POST")] * 4, error_line(CLOSED))
    retried = access_line(b"200", addr=APP + b", " + APP, us=b"502, 200", uct=b"0.000, 0.000", uht=b"-, 0.001", ubs=b"80, 80")
    found = diagnose(both, access(*[access_line(b"502", **POSTED)] * 4, retried))
    assert codes(found) == [("keepalive_race", 4, ""), ("upstream_premature_close", 1, "")]
    assert found.findings[0].note.startswith("This is likely: ")


def test_a_server_that_fails_gets_too_on_new_connections_is_no_race():
    both = errors(*[error_line(CLOSED, method=b"POST")] * 4, *[error_line(CLOSED)] * 4)
    log = [access_line(b"502", **POSTED)] * 4 + [access_line(b"502", us=b"502", uht=b"-")] * 4
    assert codes(diagnose(both, access(*log))) == [("upstream_premature_close", 8, "")]


@pytest.mark.parametrize(
    ("keeps_alive", "code"),
    [(True, "keepalive_race"), (None, "upstream_premature_close"), (False, "upstream_premature_close")],
)
def test_by_the_error_log_alone_a_race_is_likely_only_where_connections_are_kept(keeps_alive, code):
    found = diagnose(errors(error_line(CLOSED, method=b"POST")), None, Known(keeps_alive=keeps_alive))
    assert codes(found) == [(code, 1, "")]
    assert found.findings[0].note.startswith("This is likely") == (code == "keepalive_race")


def test_what_nginx_answered_without_asking_is_a_return_unless_the_error_log_says_otherwise():
    log = [access_line(b"503", addr=b"-", us=b"-", uht=b"-")] * 5
    limited = error_line(b'limiting requests, excess: 5.123 by zone "one"', server=b"")
    assert codes(diagnose(errors(*[limited] * 5), access(*log))) == [("limit_req", 5, "")]
    assert codes(diagnose(errors(*[limited] * 3), access(*log))) == [("limit_req", 3, ""), ("nginx_return", 2, "")]
    (alone,) = diagnose(None, access(*log)).findings
    assert (alone.code, alone.status) == ("nginx_return", 503)
    assert "limit_req" in alone.note


def test_clients_that_waited_and_left_were_hurt_however_few():
    left = access_line(b"499", us=b"-", uht=b"-", time=b"3.000")
    hangs = diagnose(Errors(), access(*[left] * 5, *[access_line(b"200", us=b"200")] * 100)).findings[0]
    assert (hangs.code, hangs.clients, hangs.rank) == ("client_closed", 5, 0)
    assert hangs.why.startswith("These servers hang.")
    assert "proxy_ignore_client_abort" not in hangs.fix
    one = diagnose(Errors(), access(left, *[access_line(b"200", us=b"200")] * 1000)).findings[0]
    assert (one.code, one.clients, one.is_hurting) == ("client_closed", 1, True)


def test_clients_that_left_are_told_from_answers_that_a_server_cut_short_which_nginx_logs_as_complete():
    left, complete = access_line(b"200", us=b"200", done=b""), access_line(b"200", us=b"200")
    closed = error_line(b"upstream prematurely closed connection while reading upstream")
    garbled = error_line(b"upstream sent invalid chunked response while reading upstream")
    cut, client = "upstream_premature_close_body", "client_closed"
    assert codes(diagnose(errors(*[closed] * 3), access(*[complete] * 3))) == [(cut, 3, "")]
    assert codes(diagnose(errors(*[closed] * 2), access(*[complete] * 2, left, left))) == [(cut, 2, ""), (client, 2, "")]
    assert codes(diagnose(errors(garbled), access(left, left))) == [("invalid_chunked", 1, ""), (client, 1, "")]
    assert codes(diagnose(None, access(*[left] * 3))) == [(UNEXPLAINED, 3, "")]


def test_a_failure_without_a_name_is_shown_in_nginxs_words():
    found = diagnose(errors(error_line(b"upstream said moo\x1b " + READING), error_line(REFUSED), error_line(REFUSED)))
    assert codes(found) == [("connect_refused", 2, ""), (UNEXPLAINED, 1, "")]
    assert "upstream said moo\\x1b while reading response header" in found.findings[1].why
    assert sentence(found).isprintable()


@given(ERROR_LINES, ACCESS_LINES)
def test_every_failure_is_told_and_the_sentence_stays_short(error_lines, access_lines):
    said, seen = errors(*error_lines), access(*access_lines)
    found = diagnose(said, seen)
    counted = {each.code or UNEXPLAINED for each in said.counts} - {"client_closed"}
    likely = {"keepalive_race", "no_live_all_down"}
    told = {each.code for each in (*found.findings, *found.noise)}
    assert counted - {"upstream_premature_close"} <= told | likely
    for before, each in zip((None, *found.findings), found.findings, strict=False):
        assert each.count >= each.clients >= 0
        assert not each.consequence_of or each.consequence_of in {before.code, before.consequence_of}
    assert len(sentence(found)) <= 300
    assert bool(found.findings) == bool(sentence(found))


# ---- what nginx really wrote ----

HTTP = """
    log_format full '%s';
    access_log FOLDER/access.log full;
    upstream dead { server 127.0.0.1:%d; server 127.0.0.1:%d; }
    upstream half { server 127.0.0.1:%d max_fails=0; server %s max_fails=0; }
    server { listen 127.0.0.1:PORT;
        location /dead { proxy_pass http://dead; }
        location /half { proxy_pass http://half; }
        location /app { proxy_pass http://%s; }
        location /reset { proxy_pass http://%s; }
        location /cut { proxy_pass http://%s; }
        location /return { return 503; }
        location /sorry { proxy_pass http://127.0.0.1:%d; error_page 502 = @sorry; }
        location @sorry { return 200; }
        location /file { root FOLDER; }
        location /name { set $name nowhere.test; proxy_pass http://$name; }
        location /url { set $url ""; proxy_pass $url; }
        location /bind { proxy_bind 192.0.2.1; proxy_pass http://127.0.0.1:1; }
    }
    resolver 127.0.0.1:%d;
    resolver_timeout 100ms;
"""
FORGED = (
    b"GET /file/x%0a2026/11/20%2017:00:00%20[error]%207%237:%20*4%20connect()%20failed%20(111:%20Connection%20refused)%20"
    b"while%20connecting%20to%20upstream,%20client:%201.1.1.1,%20server:%20_,%20request:%20%22GET%20/%20HTTP/1.1%22,%20"
    b"upstream:%20%226.6.6.6:6/%22,%20host:%20%22x%0a HTTP/1.0\r\n\r\n"
)


def failing_app(stream: socket.socket) -> None:
    what = stream.recv(65536).split()[1]
    stream.sendall(
        b"HTTP/1.0 502 Bad Gateway\r\n\r\nno" if what == b"/app" else b"HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\nhalf"
    )


def test_what_nginx_writes_about_failures_that_really_happened_is_told_apart(nginx, tmp_path):
    ports = [free_port("127.0.0.1") for _ in range(4)]
    with serving(failing_app) as app, serving(b"HTTP/1.0 200 OK\r\n\r\nok") as good, serving(asked_then(reset)) as gone:
        words = (
            FULL.replace("'", ""),
            ports[0],
            ports[1],
            ports[2],
            good.address,
            app.address,
            gone.address,
            app.address,
            ports[3],
            ports[0],
        )
        with frontend(nginx, tmp_path, HTTP % words) as front:
            paths = (b"dead",) * 5 + (b"half",) * 4 + (b"app", b"reset", b"cut", b"return", b"sorry", b"name", b"url", b"bind")
            front.send(*(b"GET /%s HTTP/1.0\r\n\r\n" % path for path in paths), FORGED)
            log, told = front.lines("access.log", 18), front.lines("error.log", 18)
    dead = {"dead": frozenset(f"127.0.0.1:{port}" for port in ports[:2])}
    both = diagnose(errors(*told, addresses=dead), access(*log))
    found = {each.code: each for each in both.findings}
    refused = found["connect_refused"]
    assert {*refused.servers} == {*(f"127.0.0.1:{port}" for port in ports), "6.6.6.6:6"}
    assert refused.note.startswith("The access log shows 5 of these 6. ")
    no_live = found["no_live_all_down"]
    assert (no_live.count, no_live.servers, no_live.consequence_of) == (4, ("dead",), "connect_refused")
    assert both.findings.index(no_live) == both.findings.index(refused) + 1
    assert (found["upstream_answered"].count, found["upstream_answered"].servers) == (1, (app.address,))
    assert (found["upstream_reset"].count, found["upstream_reset"].servers) == (1, (gone.address,))
    assert (found["upstream_premature_close_body"].count, found["upstream_premature_close_body"].rank) == (1, 1)
    assert (found["nginx_return"].count, found["nginx_return"].status) == (1, 503)
    assert (found["dns_timeout"].count, found["dns_timeout"].consequence_of) == (1, "dns_server_down")
    assert found["proxy_pass_invalid_url"].count == found["bind_address_missing"].count == 1
    assert not found["proxy_pass_invalid_url"].note + found["bind_address_missing"].note
    assert UNEXPLAINED not in found
    assert "client_closed" not in found


ENDS = {
    b"/length": b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
    b"/chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    b"/garbled": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno chunk",
    b"/endless": b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\nhalf",
}


def ending_app(stream: socket.socket) -> None:
    path = stream.recv(65536).split()[1]
    stream.sendall(ENDS[path])
    if path == b"/endless":
        wait_for_close(stream)


def test_only_the_error_log_has_answers_that_a_server_cut_short_and_the_access_log_those_that_a_client_left(nginx, tmp_path):
    with serving(ending_app) as app:
        http = f"""
            log_format full '{FULL.replace("'", "")}'; access_log FOLDER/access.log full;
            server {{ listen 127.0.0.1:PORT; location / {{
                proxy_pass http://{app.address}; proxy_http_version 1.1; proxy_buffering off;
            }} }}
        """
        with frontend(nginx, tmp_path, http) as front:
            front.send(*(b"GET %b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % path for path in ENDS if path != b"/endless"))
            with socket.create_connection(("127.0.0.1", front.port), timeout=10) as stream:
                stream.sendall(b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n")
                assert stream.recv(1), "the answer has begun"
            log, told = front.lines("access.log", 4), front.lines("error.log", 3)
    found = {each.code: each.count for each in diagnose(errors(*told), access(*log)).findings}
    assert found["upstream_premature_close_body"] == 2
    assert found["invalid_chunked"] == 1
    assert found["client_closed"] == 1


# ---- shown ----


def test_no_note_and_no_problem_reaches_a_terminal_as_somebody_else_wrote_it():
    found = Diagnosed(diagnosis=Diagnosis(), access=Access(), read=(), notes=("a\x1b[31m.gz is cut",), problems=("b\x1b[31m",))
    view = diagnosed(found)
    assert (view.notes, view.problems) == (("a\\x1b[31m.gz is cut",), ("b\\x1b[31m",))
    assert "\x1b" not in view.text
