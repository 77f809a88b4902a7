"""Mailboxes and the table of instances in memory."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from perdure.core.events import EventRaised, ExecutionResumed, ExecutionSuspended, ExecutionTerminated, Received
from perdure.core.state import Status
from perdure.core.turn import Fresh, Start, begin
from perdure.engine.instances import Instance, InstanceTable, Mail

EVENT, SUSPEND, RESUME, TERMINATE = EventRaised("go"), ExecutionSuspended(), ExecutionResumed(), ExecutionTerminated()


def instance_with(*events: Received, status: Status = "Running", parked: str | None = None, key: int = 1) -> Instance:
    instance = Instance(key)
    instance.state, _ = begin(Start("f"), key=key, id=f"it-{key}", execution=Fresh(2, "e"), now=0)
    instance.state.unrun = []
    instance.state.row.status = status
    instance.state.row.parked = parked
    instance.id = f"it-{key}"
    instance.mailbox.extend(Mail(number, key, 0, event) for number, event in enumerate(events))
    return instance


def numbers(mails: Sequence[Mail]) -> list[int]:
    return [mail.id for mail in mails]


@pytest.mark.parametrize(
    ("events", "takes"),
    [
        ([], [[]]),
        ([EVENT, EVENT, EVENT], [[0, 1, 2], []]),
        ([SUSPEND, EVENT], [[0], [1]]),
        ([EVENT, SUSPEND, EVENT, TERMINATE], [[0], [1], [2], [3]]),
        ([EVENT, EVENT, RESUME], [[0, 1], [2]]),
    ],
)
def test_a_turn_takes_what_comes_before_the_next_control_message(
    events: list[Received], takes: list[list[int]]
) -> None:
    instance = instance_with(*events)
    assert [numbers(instance.take(100)) for _ in takes] == takes


def test_a_turn_takes_no_more_than_its_limit() -> None:
    instance = instance_with(*[EVENT] * 5)
    assert [numbers(instance.take(2)) for _ in range(4)] == [[0, 1], [2, 3], [4], []]


def test_terminate_overtakes_everything_while_no_code_has_run() -> None:
    instance = instance_with(EVENT, SUSPEND, EVENT, TERMINATE, status="Pending")
    assert numbers(instance.take(100)) == [3]
    assert numbers(list(instance.mailbox)) == [0, 1, 2]


@pytest.mark.parametrize("status", ["Pending", "Suspended"])
def test_terminate_overtakes_events(status: Status) -> None:
    instance = instance_with(EVENT, EVENT, TERMINATE, status=status)
    assert numbers(instance.take(100)) == [2]
    assert numbers(list(instance.mailbox)) == [0, 1]


@pytest.mark.parametrize("parked", [None, "for a reason"])
def test_a_held_instance_is_reached_by_control_messages_only(parked: str | None) -> None:
    instance = instance_with(EVENT, RESUME, EVENT, status="Running" if parked else "Suspended", parked=parked)
    assert numbers(instance.take(100)) == [1]
    assert instance.take(100) == []
    assert numbers(list(instance.mailbox)) == [0, 2]


def test_what_was_not_taken_comes_back_in_its_place() -> None:
    instance = instance_with(*[EVENT] * 5)
    taken = instance.take(4)
    instance.put_back(taken[1:])
    assert numbers(list(instance.mailbox)) == [1, 2, 3, 4]


def test_an_instance_wants_a_turn_for_mail_or_for_a_start_that_no_code_has_seen() -> None:
    idle, mailed, fresh = instance_with(), instance_with(EVENT), instance_with()
    assert fresh.state is not None and idle.state is not None
    fresh.state.unrun = [EVENT]
    assert [one.wants_turn for one in (idle, mailed, fresh)] == [False, True, True]
    fresh.state.row.status = "Suspended"
    mailed.side = []
    assert [one.wants_turn for one in (mailed, fresh)] == [False, False]
    mailed.side, mailed.state = None, None
    assert not mailed.wants_turn


# --- the table -------------------------------------------------------------------------------------------------------


def table_of(*instances: Instance) -> InstanceTable:
    table = InstanceTable()
    for instance in instances:
        table.add(instance)
    return table


def test_the_least_recently_used_go_first_and_only_as_many_as_there_are_too_many() -> None:
    instances = [instance_with(key=key) for key in range(5)]
    table = table_of(*instances)
    table.used(instances[0])
    assert [one.key for one in table.evictable(3, 0)] == [1, 2]
    assert table.evictable(5, 0) == []


def test_nobody_goes_who_is_about_to_be_used_or_is_not_durable() -> None:
    mailed, busy, queued, watched, siding, unread, pinned = (instance_with(key=key) for key in range(7))
    mailed.mailbox.append(Mail(1, 0, 0, EVENT))
    busy.busy = queued.queued = True
    watched.on_load.append(lambda _: None)
    siding.side = []
    unread.state = None
    pinned.last_batch = 8
    table = table_of(mailed, busy, queued, watched, siding, unread, pinned)
    assert table.evictable(0, durable=7) == []
    assert table.evictable(0, durable=8) == [pinned]


def test_an_id_leads_to_whoever_has_it_now() -> None:
    old, new = instance_with(key=1), instance_with(key=2)
    new.id = old.id = "it"
    table = table_of(old)
    table.remove(old)
    assert table.find("it") is None
    table.add(new)
    table.remove(old)
    assert table.find("it") is new
    assert len(table) == 1


def test_one_that_is_named_when_it_is_read_is_found_by_its_name() -> None:
    table, instance = InstanceTable(), Instance(3)
    table.add(instance)
    assert table.find("it") is None
    table.name(instance, "it")
    assert table.find("it") is instance
    table.remove(instance)
    assert table.find("it") is None
