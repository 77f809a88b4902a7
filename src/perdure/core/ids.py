"""Keys and ids.

An instance has an `id`, chosen by the user or made here, and a `key`: an integer in order of creation that leads every
table, because a random text as leading key costs a tree-based store ten times the work. Keys come in blocks: the upper
bits are the ordinal of the host's registration, so no round trip is needed to make one. Ordinal 0 belongs to clients
that are not hosts; the store counts those itself.
"""

from __future__ import annotations

import zlib

from perdure.core.errors import InvalidRequest

KEY_BITS = 40
PARTITIONS = 32
MAX_INSTANCE_ID = 256
MAX_NAME = 1024

_FORBIDDEN = frozenset("/\\#?")


def partition_of(instance_id: str) -> int:
    """The partition of an instance: fixed for ever by the id's UTF-8 bytes."""
    return zlib.crc32(instance_id.encode("utf-8", "surrogatepass")) % PARTITIONS


def first_key(ordinal: int) -> int:
    return ordinal << KEY_BITS


RANDOM_ID_BITS = 74


def new_instance_id(now: int, random_bits: int) -> str:
    """32 hexadecimal digits of a UUID of version 7, from microseconds since the epoch and `RANDOM_ID_BITS` random bits.

    Such ids sort by time, so the index of ids grows at its end. Random ones would touch a page of their own each, which
    was a third of all that a start writes.
    """
    high, low = random_bits >> 62, random_bits & ((1 << 62) - 1)
    return f"{(now // 1000) << 80 | 7 << 76 | high << 64 | 2 << 62 | low:032x}"


def execution_id(prefix: str, key: int) -> str:
    """32 hexadecimal digits: those of the host's random 64 bits and those of an execution key."""
    return f"{prefix}{key:016x}"


def child_id(execution_id: str, task_id: int) -> str:
    return f"{execution_id}:{task_id}"


def check_text(text: str, what: str) -> str:
    """Refuse what not every store can hold in an id or a name: NUL and lone surrogates."""
    if "\0" in text:
        raise InvalidRequest(f"{what} contains a NUL character; remove it.")
    return check_unicode(text, what)


def check_unicode(text: str, what: str) -> str:
    """Refuse lone surrogates, which UTF-8 cannot hold. Raises InvalidRequest."""
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InvalidRequest(
                f"{what} is not valid Unicode (a lone surrogate at position {error.start}); remove it."
            ) from None
    return text


def check_instance_id(instance_id: str) -> str:
    """The rules that Durable Functions has for ids of orchestrations. Raises InvalidRequest."""
    if not instance_id:
        raise InvalidRequest("The instance ID is empty; leave it out to get one made.")
    if len(instance_id) > MAX_INSTANCE_ID:
        raise InvalidRequest(
            f"The instance ID has {len(instance_id)} characters; at most {MAX_INSTANCE_ID} are allowed."
        )
    if instance_id.startswith("@"):
        raise InvalidRequest("Orchestration instance ids must not start with @")
    check_text(instance_id, "The instance ID")
    for position, char in enumerate(instance_id):
        if char in _FORBIDDEN or ord(char) < 32 or 0x7F <= ord(char) < 0xA0:
            raise InvalidRequest(
                f"The instance ID contains {char!r} at position {position}; "
                "the characters / \\ # ? and control characters are not allowed."
            )
    return instance_id


def check_name(name: str, what: str) -> str:
    if not name:
        raise InvalidRequest(f"{what} is empty.")
    if len(name) > MAX_NAME:
        raise InvalidRequest(f"{what} has {len(name)} characters; at most {MAX_NAME} are allowed.")
    return check_text(name, what)
