from __future__ import annotations

import re
from uuid import RFC_4122, UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.core.errors import InvalidRequest
from perdure.core.ids import (
    KEY_BITS,
    MAX_INSTANCE_ID,
    MAX_NAME,
    PARTITIONS,
    RANDOM_ID_BITS,
    check_instance_id,
    check_name,
    check_text,
    check_unicode,
    child_id,
    execution_id,
    first_key,
    new_instance_id,
    partition_of,
)


@pytest.mark.parametrize(
    ("instance_id", "partition"),
    [("", 0), ("a", 3), ("A", 11), ("order-4711", 15), ("café", 21), ("naïve ", 9), ("@counter@a", 13)],
)
def test_the_partition_of_an_id_is_the_same_for_ever(instance_id: str, partition: int) -> None:
    assert partition_of(instance_id) == partition


@given(st.text())
def test_every_id_has_a_partition(instance_id: str) -> None:
    assert 0 <= partition_of(instance_id) < PARTITIONS


def test_keys_of_a_later_host_are_above_those_of_every_earlier_one() -> None:
    assert first_key(2) - first_key(1) == 1 << KEY_BITS
    assert first_key(0) == 0


def test_an_execution_id_has_32_hexadecimal_digits_and_tells_hosts_and_keys_apart() -> None:
    ids = {execution_id(f"{prefix:016x}", key) for prefix in (0, 1, 2**64 - 1) for key in (0, 1, first_key(5) + 7)}
    assert len(ids) == 9
    assert all(re.fullmatch(r"[0-9a-f]{32}", one) for one in ids)


@given(now=st.integers(0, 2**57), bits=st.integers(0, 2**RANDOM_ID_BITS - 1))
def test_a_new_instance_id_is_a_uuid_of_version_7_that_sorts_by_time(now: int, bits: int) -> None:
    made = UUID(new_instance_id(now, bits))
    assert (made.version, made.variant, made.int >> 80) == (7, RFC_4122, now // 1000)
    assert new_instance_id(now, bits) < new_instance_id(now + 1000, 0)


@given(bits=st.sets(st.integers(0, 2**RANDOM_ID_BITS - 1), min_size=2))
def test_new_instance_ids_of_one_moment_differ_as_their_random_bits_do(bits: set[int]) -> None:
    assert len({new_instance_id(0, one) for one in bits}) == len(bits)


def test_the_id_of_a_child_names_its_parents_execution_and_task() -> None:
    assert child_id("f" * 32, 3) == "f" * 32 + ":3"


@pytest.mark.parametrize("instance_id", ["a", "a b", "a:0", "käse", "A" * MAX_INSTANCE_ID, "a@b", "x\u2028", "😀"])
def test_ids_that_orchestrations_may_have(instance_id: str) -> None:
    assert check_instance_id(instance_id) == instance_id


@pytest.mark.parametrize(
    ("instance_id", "says"),
    [
        ("", "empty"),
        ("@counter@a", "must not start with @"),
        ("A" * (MAX_INSTANCE_ID + 1), "257 characters; at most 256"),
        ("a/b", "'/' at position 1"),
        ("a\\b", "position 1"),
        ("#", "'#' at position 0"),
        ("what?", "'?' at position 4"),
        ("a\nb", r"'\n' at position 1"),
        ("a\x7f", "position 1"),
        ("a\x9f", "position 1"),
        ("a\0", "NUL"),
        ("a\ud800", "lone surrogate at position 1"),
    ],
)
def test_ids_that_they_may_not_have(instance_id: str, says: str) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(says)):
        check_instance_id(instance_id)


@pytest.mark.parametrize("name", ["", "n" * (MAX_NAME + 1), "a\0b", "\udfff"])
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match="The event name"):
        check_name(name, "The event name")


def test_names_may_have_what_ids_may_not() -> None:
    assert check_name("a/b#c?", "The name") == "a/b#c?"
    assert check_name("n" * MAX_NAME, "The name")


def test_a_value_may_have_a_nul_but_no_lone_surrogate() -> None:
    assert check_unicode("a\0b", "The input") == "a\0b"
    assert check_unicode("", "The input") == ""
    with pytest.raises(InvalidRequest, match="The input is not valid Unicode"):
        check_unicode("😀\ud83d", "The input")
    with pytest.raises(InvalidRequest, match="NUL"):
        check_text("a\0b", "The text")
