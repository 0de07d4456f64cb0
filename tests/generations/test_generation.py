"""Names, numbers and the way back."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upswitch.generations.generation import (
    KEEP,
    Manifest,
    decode_manifest,
    digest,
    encode_manifest,
    next_number,
    to_prune,
    way_back,
)
from upswitch.site.model import Generation, parse_name, parse_names

POOLS = st.text(f"{string.ascii_letters}{string.digits}_-", min_size=1, max_size=64)
GENERATIONS = st.builds(Generation, number=st.integers(0, 999_999_998), pool=POOLS)


@given(GENERATIONS)
def test_the_name_of_a_generation_is_read_back(generation):
    assert parse_name(generation.name) == generation


@given(st.text(max_size=20) | st.from_regex(r"\d{1,12}-\w{0,70}", fullmatch=True))
def test_every_text_that_is_read_as_a_generation_is_exactly_its_name(text):
    found = parse_name(text)
    assert found is None or found.name == text


@pytest.mark.parametrize(
    "text",
    ["", "000042", "000042-", "42-B", "0000042-B", "000042-B\n", "000042-B/", ".000042-B.tmp", "٠٠٠٠٤٢-B", "000042-ö", "-00042-B"],
)
def test_any_other_name_is_not_a_generation(text):
    assert parse_name(text) is None


def test_the_generations_of_a_folder_come_lowest_number_first():
    names = ["000010-A", "lost+found", "1000000-B", "000009-B", ".000011-A.tmp"]
    assert [generation.name for generation in parse_names(names)] == ["000009-B", "000010-A", "1000000-B"]


@given(st.lists(GENERATIONS), st.lists(GENERATIONS), st.lists(st.text(max_size=5)))
def test_the_next_number_was_never_used(present, used, noise):
    number = next_number(present, [*(generation.name for generation in used), *noise])
    assert number > 0
    assert all(number > generation.number for generation in (*present, *used))


def manifest(name, *, replaces="", copy_of=""):
    return Manifest(name=name, pool=name[7:], sha256={}, replaces=replaces, copy_of=copy_of)


def site(*manifests):
    return {each.name: each for each in manifests}


FIRST = manifest("000001-A")
SWITCHED = site(FIRST, manifest("000002-B", replaces="000001-A"), manifest("000003-A", replaces="000002-B", copy_of="000001-A"))
TWICE = SWITCHED | site(
    manifest("000004-A", replaces="000002-B"),
    manifest("000005-B", replaces="000004-A", copy_of="000002-B"),
    manifest("000006-B", replaces="000004-A", copy_of="000002-B"),
    manifest("000008-A", replaces="000006-B", copy_of="000001-A"),
)
FAILED = TWICE | site(
    manifest("000007-B", replaces="000004-A"),
    manifest("000009-A", replaces="000007-B", copy_of="000004-A"),
)


@pytest.mark.parametrize(
    ("live", "manifests", "back"),
    [
        ("000001-A", SWITCHED, None),  # nothing was before the first
        ("000002-B", SWITCHED, "000001-A"),
        ("000003-A", SWITCHED, "000002-B"),  # a rollback of a rollback undoes it
        ("000004-A", TWICE, "000002-B"),
        ("000006-B", TWICE, "000004-A"),
        ("000008-A", TWICE, "000006-B"),
        ("000009-A", FAILED, "000007-B"),
        ("000099-A", TWICE, None),
        ("", TWICE, None),
        ("000002-B", site(manifest("000002-B", replaces="000001-A")), None),  # it was pruned
        ("000003-A", site(manifest("000003-A", replaces="000002-B", copy_of="000001-A")), None),
        ("000003-A", site(manifest("000003-A", copy_of="000001-A"), manifest("000001-A", copy_of="000003-A")), None),
    ],
)
def test_a_rollback_leads_to_what_was_live_before(live, manifests, back):
    assert way_back(live, manifests) == back


@given(st.lists(GENERATIONS, unique_by=lambda generation: generation.number, max_size=30), st.data())
def test_pruning_keeps_the_newest_generations_and_those_that_must_stay(present, data):
    kept = data.draw(st.lists(st.sampled_from(present))) if present else []
    pruned = to_prune(present, [*(generation.name for generation in kept), ""])
    newest = sorted(present, key=lambda generation: -generation.number)[:KEEP]
    spared = {generation.name for generation in (*kept, *newest)}
    assert set(pruned) == {generation.name for generation in present} - spared


def test_a_manifest_is_read_back_and_anything_else_is_none():
    whole = Manifest(
        name="000002-B", pool="B", sha256={"app.conf": digest(b"x")}, replaces="000001-A", servers={"app": ("127.0.0.1:80",)}
    )
    assert decode_manifest(encode_manifest(whole)) == whole
    assert decode_manifest(encode_manifest(whole).replace(b"\n", b"")) == whole  # as the scripts print it
    for data in (b"", b"{}", b"null", b"\xff", encode_manifest(whole)[:-3]):
        assert decode_manifest(data) is None
