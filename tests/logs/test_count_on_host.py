"""What awk counted against what we count ourselves of the same lines, whatever a client put into them."""

import os
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples import at_most
from loglines import ALL, ATTRIBUTIONS, NUMBERS, OF_NGINX, UNITS, any_line, counted, hits_of, hostile_line, joined, line_of
from upswitch.diagnose.count_access import AccessCounter
from upswitch.hosts.count_program import whole_lines
from upswitch.logs.count_on_host import count_program
from upswitch.logs.format_regex import parts_of
from upswitch.logs.line import MAX_LINE, compile_format
from upswitch.nginx.conf_logs import COMBINED
from upswitch.watch.attribution import Attribution, counter_for
from upswitch.watch.history import Second

AWKS_ENV = "UPSWITCH_AWKS"
"""Other awks, each with its arguments, colon separated: `gawk:busybox awk`."""

_NAMED = ["mawk", "gawk", "busybox awk", "original-awk", *os.environ.get(AWKS_ENV, "").split(":")]
AWKS = [awk for awk in _NAMED if awk and shutil.which(awk.split()[0])]
COUNTABLE = {name: each for name, each in ALL.items() if count_program(compile_format(each[1], each[0]))}


@pytest.fixture(params=AWKS or [pytest.param("", marks=pytest.mark.skip(reason=f"no awk here: set {AWKS_ENV}"))])
def awk(request):
    return request.param.split()


def run(awk, program, data, *, most=500, torn=0, size=None):
    """Its rows, and how many bytes were whole lines."""
    size = len(data) if size is None else size
    argv = (*awk, "-v", f"n={size}", "-v", f"torn={torn}", "-v", f"most={most}", program.awk)
    ran = subprocess.run(argv, input=data, capture_output=True, check=True, env={**os.environ, "LC_ALL": "C"})
    return ran.stdout, int(ran.stderr)


def reader_of(name):
    escape, text = ALL[name]
    return compile_format(text, escape)


def far_count(awk, block, counter, program, *, most=500):
    """As the watch counts: what was sent whole, and what was counted there."""
    rows, used = run(awk, program, block, most=most)
    lines, alike = program.rows(rows)
    assert used == len(block)
    assert lines.count(b"\n") + sum(each.times for each in alike) == block.count(b"\n")
    return counter.count(lines, alike)


def plain_line(name):
    """Of a good request."""
    fields = (
        b"17" if part.variable in NUMBERS else OF_NGINX.get(part.variable, ("1.234",))[0].encode()
        for part in parts_of(ALL[name][1])
    )
    return (
        b"".join(
            (field if part.variable else b"") + part.literal for field, part in zip(fields, parts_of(ALL[name][1]), strict=True)
        )
        + b"\n"
    )


@pytest.mark.parametrize("name", COUNTABLE)
@at_most(20)
@given(data=st.data())
def test_what_awk_counts_is_judged_as_the_lines_themselves_are(name, data):
    lines = data.draw(st.lists(any_line(name), max_size=12))
    attribution, is_timed = data.draw(st.sampled_from(ATTRIBUTIONS)), data.draw(st.booleans())
    agree(name, lines, attribution, is_timed=is_timed, most=data.draw(st.sampled_from((0, 1, 500))))


@pytest.mark.parametrize("name", COUNTABLE)
@pytest.mark.parametrize("attribution", ATTRIBUTIONS)
def test_a_line_counts_the_same_whatever_lines_came_before_it(name, attribution):
    """The second line is nearly of the bare format. It was read in two ways, as most lines before it were of another one."""
    almost = [b"", b"200 200 b:1 0.000 0.001 : - ", b"- - - [2026-11-21T12:00:00+00:00] - 200 200, b:1|"]
    agree(name, almost, attribution, is_timed=False, most=500)
    agree(name, [b"b:1 200 200 b:1 200 1795262400.000 0"], attribution, is_timed=False, most=0)  # no time has no fraction


def agree(name, lines, attribution, *, is_timed, most):
    """What awk counts, and then the same lines, by one counter."""
    block = joined(lines).replace(b"\x00", b"\x01")
    reader = reader_of(name)
    counter = counter_for(attribution, reader, is_timed=is_timed)
    found = far_count(["awk"], block, counter, count_program(reader, is_timed=is_timed), most=most)
    near = hits_of(counter.count(block), attribution, is_timed=is_timed)
    assert hits_of(found, attribution, is_timed=is_timed) == near


@pytest.mark.parametrize("name", COUNTABLE)
def test_what_a_hostile_client_sends_in_every_field_is_counted_right_by_any_awk(awk, name):
    reader = reader_of(name)
    sizes = (0, 1, 2, 3, 40, 8192)
    block = b"".join(hostile_line(name, unit, size) for unit in UNITS if unit != b"\x00" for size in sizes) * 2
    counter = counter_for(ATTRIBUTIONS[2], reader)
    found = far_count(awk, block, counter, count_program(reader), most=0)
    assert hits_of(found, ATTRIBUTIONS[2]) == hits_of(counter.count(block), ATTRIBUTIONS[2])


@pytest.mark.parametrize("name", COUNTABLE)
def test_good_lines_are_counted_and_not_sent(awk, name):
    reader = reader_of(name)
    line = plain_line(name)
    rows, _ = run(awk, count_program(reader), line * 5000)
    lines, alike = count_program(reader).rows(rows)
    assert (lines, sum(each.times for each in alike)) == (b"", 5000)  # some are counted apart, by client
    assert len(rows) < 200


def test_lines_of_requests_that_failed_are_sent_whole_up_to_a_number_and_counted_beyond(awk):
    reader = compile_format('"$request" $status "$upstream_status" "$upstream_addr"')
    program = count_program(reader)
    failed = [b'"GET /%d" 200 "502, 200" "b:1, b:2"' % number for number in range(9)]
    rows, _ = run(awk, program, joined(failed) + b'"GET /" 200 "200" "b:1"\n' * 3, most=4)
    lines, alike = program.rows(rows)
    assert lines == joined(failed[:4])
    assert sorted((each.times, each.is_good) for each in alike) == [(3, True), (5, False)]


def test_the_diagnosis_counts_the_same_requests_and_servers_by_what_was_sent_and_counted(awk):
    escape, text = ALL["advised"]
    reader = compile_format(text, escape)
    line = plain_line("advised")
    block = line * 50 + line.replace(b'"200"', b'"502"') * 5
    far, near = AccessCounter(reader), AccessCounter(reader)
    near.count(block)
    rows, _ = run(awk, count_program(reader), block)
    lines, alike = count_program(reader).rows(rows)
    far.count(lines)
    for each in alike:
        far.count(each.line * each.times)
    assert far.found() == near.found()


def test_a_line_that_has_not_ended_is_left_for_the_next_time(awk):
    for program in (whole_lines(), count_program(compile_format(COMBINED))):
        assert run(awk, program, b"one\ntwo\nthr") == (b"\tone\n\ttwo\n\n", 8)
        assert run(awk, program, b"thr") == (b"\n", 0)
        assert run(awk, program, b"\n\n") == (b"\t\n\t\n\n", 2)
        assert run(awk, program, b"end of a huge line\nnext\nha", torn=1) == (b"\tnext\n\n", 24)


def test_lines_are_sent_as_they_are(awk):
    lines = [b"", b"\ttab", b"+1\t2", b"=", b'"', b"\\", b"\xff\xfe", b"\r", b"a" * 100_000, b" 1 "]
    rows, _ = run(awk, whole_lines(), joined(lines))
    assert whole_lines().rows(rows) == (joined(lines), ())


def test_a_line_over_the_limit_is_not_counted_as_one_of_the_format(awk):
    reader = compile_format("$status $request_uri")
    block = b"".join(b"200 " + b"x" * (length - 4) + b"\n" for length in (MAX_LINE - 1, MAX_LINE, MAX_LINE + 1))
    counter = counter_for(Attribution(), reader)
    found = far_count(awk, block, counter, count_program(reader))
    assert hits_of(found, Attribution()) == hits_of(counter.count(block), Attribution())


def test_formats_in_which_a_value_has_no_sure_end_are_not_counted_there():
    for text in (
        "$request_time$upstream_addr",
        "$upstream_addr, $upstream_status",
        "[$upstream_addr] $status",
        "$upstream_addr $http_user_agent",
        "$upstream_status : $status",
        "$status ü $upstream_addr|",
        "$request_time.$status",
    ):
        assert count_program(compile_format(text)) is None
    assert count_program(compile_format("$status $request_uri", "none")) is None
    assert count_program(compile_format("$status \\ $request_uri", "json")) is None
    assert count_program(compile_format("$status $request_uri")) is not None


def test_rows_that_are_none_are_a_value_error():
    program = count_program(compile_format("$status $upstream_status"))
    for rows in (b"\nx\t200\t200\n", b"\n1\t200\n", b"\n1\t200\t200\t3\n"):
        with pytest.raises(ValueError, match=r"."):
            program.rows(rows)


def test_a_hung_client_beyond_the_number_is_counted_as_hung(awk):
    reader = compile_format("$status $request_time $upstream_status $upstream_header_time $upswitch_generation")
    block = joined(
        [b"499 61.123 - - 000042-B", b"499 0.999 - - 000042-B", b"499 1.000 200 0.512 000042-B", b"499 1.000 - - 000042-B"]
    )
    rows, _ = run(awk, count_program(reader), block, most=0)
    _, alike = count_program(reader).rows(rows)
    far, near = counted(reader, ATTRIBUTIONS[1], b"", alike), counted(reader, ATTRIBUTIONS[1], block)
    assert far.new == near.new == Second(total=3, hung=2)  # who left at once is no good request


@at_most(20)
@given(data=st.data())
def test_lines_written_into_one_another_are_counted_once_each(data):
    name = data.draw(st.sampled_from(sorted(COUNTABLE)))
    block = joined(data.draw(st.lists(line_of(name), min_size=1, max_size=6))).replace(b"\x00", b"\x01")
    start = data.draw(st.integers(0, len(block)))
    block = block[:start] + block[data.draw(st.integers(start, len(block))) :]
    block = block[: block.rfind(b"\n") + 1]
    reader = reader_of(name)
    far_count(["awk"], block, counter_for(ATTRIBUTIONS[2], reader), count_program(reader))
