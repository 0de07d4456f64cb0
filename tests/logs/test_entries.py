"""Counting by blocks against reading line by line: the same lines, the same kinds, whatever a client put into them."""

import re
import time
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples import at_most
from loglines import ALL, ATTRIBUTIONS, OF_NGINX, UNITS, any_line, at, counted, hits_of, hostile_line, line_of
from upswitch.basics.result import Failure
from upswitch.logs.line import MAX_LINE, compile_format
from upswitch.watch.attribution import Attribution, Hit, Whose, counter_for
from upswitch.watch.history import Second


def one_by_one(block, reader, attribution, *, is_timed):
    entries = [reader.read(line) for line in block.split(b"\n")[:-1]]
    return Counter(
        (at(entry.time or "") if entry and is_timed else None, attribution.classify(entry) if entry else None) for entry in entries
    )


def by_blocks(blocks, reader, attribution, *, is_timed):
    counter = counter_for(attribution, reader, is_timed=is_timed)
    return sum((hits_of(counter.count(block), attribution, is_timed=is_timed) for block in blocks), Counter())


def cut(lines, size):
    return [b"".join(line + b"\n" for line in lines[start : start + size]) for start in range(0, len(lines), size)]


@pytest.mark.parametrize("name", ALL)
@at_most(40)
@given(data=st.data())
def test_blocks_count_what_reading_line_by_line_counts(name, data):
    lines = data.draw(st.lists(any_line(name), max_size=12))
    attribution = data.draw(st.sampled_from(ATTRIBUTIONS))
    is_timed, size = data.draw(st.booleans()), data.draw(st.integers(1, 12))
    escape, text = ALL[name]
    reader = compile_format(text, escape)
    expected = one_by_one(b"".join(line + b"\n" for line in lines), reader, attribution, is_timed=is_timed)
    assert by_blocks(cut(lines, size), reader, attribution, is_timed=is_timed) == expected


@pytest.mark.parametrize("attribution", ATTRIBUTIONS)
@pytest.mark.parametrize(
    "line", [b"200 200 b:1 0.000 0.001 : - ", b"502 502 :  b:1 0.000 0.001 : - 0000", b"404 200 : 504 - 1.000 0.001 : - "]
)
def test_a_line_that_was_cut_behind_a_redirect_is_read_by_neither_way(line, attribution):
    reader = compile_format(ALL["bare"][1])
    assert reader.read(line) is None
    assert counted(reader, attribution, line + b"\n").unread == 1


@pytest.mark.parametrize("name", ALL)
@at_most(40)
@given(data=st.data())
def test_every_line_is_counted_once_even_where_two_were_written_into_one_another(name, data):
    lines = data.draw(st.lists(line_of(name), min_size=1, max_size=6))
    data_of = b"".join(line + b"\n" for line in lines)
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(data_of)))
        data_of = data_of[:start] + data_of[data.draw(st.integers(start, len(data_of))) :]
    block = data_of[: data_of.rfind(b"\n") + 1]
    escape, text = ALL[name]
    lines = counter_for(ATTRIBUTIONS[2], compile_format(text, escape)).count(block)
    assert sum(each.times for each in lines) == block.count(b"\n")
    assert counted(compile_format(text, escape), ATTRIBUTIONS[2], block).lines == block.count(b"\n")


@given(st.lists(st.binary(max_size=80), max_size=10))
def test_any_bytes_are_counted_as_so_many_lines(lines):
    block = b"".join(line + b"\n" for line in lines)
    for escape, text in ALL.values():
        lines = counter_for(ATTRIBUTIONS[3], compile_format(text, escape), is_timed=True).count(block)
        assert sum(each.times for each in lines) == block.count(b"\n")


def test_empty_lines_are_not_read():
    for escape, text in ALL.values():
        assert counted(compile_format(text, escape), Attribution(), b"\n\n\n").unread == 3


@pytest.mark.parametrize("length", [MAX_LINE - 1, MAX_LINE, MAX_LINE + 1, 5 * MAX_LINE])
def test_a_line_over_the_limit_is_not_read_and_its_neighbours_are(length):
    reader = compile_format("$status $request_uri")
    block = b"200 /\n" * 20_000 + b"502 " + b"x" * (length - 4) + b"\n" + b"502 /\n" * 3
    expected = (Second(total=20_004, gateway=4), 0) if length <= MAX_LINE else (Second(total=20_003, gateway=3), 1)
    found = counted(reader, Attribution(), block)
    assert (found.new, found.unread) == expected


def test_many_kinds_of_line_are_forgotten_again_and_still_counted():
    """Names of upstreams are the owner's, so their number has no bound of its own."""
    reader = compile_format("$status $upstream_addr")
    block = b"".join(b"502 10.0.%d.%d:80\n" % divmod(number, 256) for number in range(9000)) * 2
    ours = Attribution(addresses=frozenset({"10.0.0.7:80"}))
    found = counted(reader, ours, block)
    assert (found.new, found.other) == (Second(total=2, gateway=2), 17_998)


def test_the_former_pools_lines_are_told_from_the_new_ones_at_the_same_speed():
    """Between the opening of the logs and the swap, every line is one of the former generation."""
    escape, text = ALL["advised"]
    counter = counter_for(ATTRIBUTIONS[1], compile_format(text, escape))
    line = re.sub(r"\$(\w+)", lambda name: OF_NGINX.get(name[1], ("1.000",))[0], text).encode() + b"\n"
    new, former = line * 5000, line.replace(b"000042-B", b"000041-A") * 5000
    assert set(hits_of(counter.count(new), ATTRIBUTIONS[1])) == {(None, Hit(whose=Whose.NEW))}
    assert set(hits_of(counter.count(former), ATTRIBUTIONS[1])) == {(None, Hit(whose=Whose.FORMER))}
    assert best(lambda: counter.count(former)) < 3 * best(lambda: counter.count(new))


def best(act):
    taken = []
    for _ in range(5):
        start = time.process_time()
        act()
        taken.append(time.process_time() - start)
    return min(taken)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("unit", UNITS)
def test_four_times_what_a_hostile_client_sends_costs_about_four_times(name, unit):
    """Up to 8 KiB in each of its fields: no field may be tried at each place of another, which would cost 16 times."""
    escape, text = ALL[name]
    counter = counter_for(ATTRIBUTIONS[2], compile_format(text, escape))
    short, long = (hostile_line(name, unit, size) for size in (2048, 8192))
    assert sum(each.times for each in counter.count(long)) == 1
    assert best(lambda: [counter.count(long) for _ in range(3)]) < 10 * best(lambda: [counter.count(short) for _ in range(3)])


def test_a_hung_client_is_found_among_plain_lines():
    reader = compile_format("$status $request_time $upstream_status $upstream_header_time $upswitch_generation")
    block = b"200 0.001 200 0.001 000042-B\n499 1.500 - - 000042-B\n499 0.500 - - 000042-B\n499 9.000 - - 000041-A\n"
    lines = counter_for(ATTRIBUTIONS[1], reader).count(block)
    assert hits_of(lines, ATTRIBUTIONS[1]) == {
        (None, Hit(whose=Whose.NEW)): 1,
        (None, Hit(whose=Whose.LEFT)): 1,
        (None, Hit(whose=Whose.NEW, failure=Failure.HUNG)): 1,
        (None, Hit(whose=Whose.FORMER, failure=Failure.HUNG)): 1,
    }
