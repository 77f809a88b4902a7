"""The inbox: in order of arrival, each message deleted exactly once."""

from __future__ import annotations

import pytest
from store_rows import Lane, everything, instance, message

from perdure.core.errors import ShortCount
from perdure.store.api import Store


def test_messages_arrive_in_the_order_of_their_commits(lane: Lane, store: Store) -> None:
    a, b = instance(lane.first + 1), instance(lane.first + 2)
    lane.commit(created=[a, b])
    lane.commit(inbox_new=[message(lane.first + 30, a.key), message(lane.first + 10, b.key)])
    lane.commit(inbox_new=[message(lane.first + 20, a.key)])
    mails = store.inbox(0, 10)
    assert [mail.id - lane.first for mail in mails] == [30, 10, 20]
    assert [mail.seq for mail in mails] == sorted({mail.seq for mail in mails})
    assert [mail.id - lane.first for mail in store.inbox_of(a.key, 0, 10)] == [30, 20]


def test_arrival_numbers_are_never_given_out_twice(lane: Lane, store: Store) -> None:
    target = instance(lane.first + 1)
    lane.commit(created=[target], inbox_new=[message(lane.first + 1, target.key)])
    (mail,) = store.inbox(0, 10)
    lane.commit(inbox_done=[mail.id])
    lane.commit(inbox_new=[message(lane.first + 2, target.key)])
    (later,) = store.inbox(mail.seq, 10)
    assert later.id == lane.first + 2


def test_the_inbox_is_read_in_pages(lane: Lane, store: Store) -> None:
    target, other = instance(lane.first + 1), instance(lane.first + 2)
    ids = [lane.first + n for n in range(100, 120)]
    lane.commit(created=[target, other], inbox_new=[message(id, (target, other)[id % 2].key) for id in ids])
    assert [mail.id for mail in everything(lambda after: store.inbox(after, 7), lambda mail: mail.seq)] == ids
    mine = everything(lambda after: store.inbox_of(target.key, after, 3), lambda mail: mail.seq)
    assert [mail.id for mail in mine] == [id for id in ids if id % 2 == 0]


def test_a_message_is_deleted_once_only(lane: Lane, store: Store) -> None:
    target = instance(lane.first + 1)
    lane.commit(created=[target], inbox_new=[message(lane.first + n, target.key) for n in (5, 6)])
    lane.commit(inbox_done=[lane.first + 5])
    with pytest.raises(ShortCount):
        lane.commit(inbox_done=[lane.first + 5, lane.first + 6])
    assert [mail.id for mail in store.inbox(0, 10)] == [lane.first + 6]


@pytest.mark.parametrize(
    ("changes", "held"),
    [
        ({"status": "Pending"}, False),
        ({"status": "Running"}, False),
        ({"status": "Completed"}, False),
        ({"status": "Terminated"}, False),
        ({"status": "Suspended"}, True),
        ({"status": "Failed"}, True),
        ({"status": "Running", "parked": ""}, True),
        ({"status": "Pending", "parked": "why"}, True),
    ],
)
def test_mail_says_whether_its_target_is_held(lane: Lane, store: Store, changes: dict[str, str], held: bool) -> None:
    target = instance(lane.first + 1)
    lane.commit(created=[target], inbox_new=[message(lane.first + 2, target.key)])
    lane.commit(updated=[instance(lane.first + 1, **changes)])
    assert [mail.held for mail in store.inbox(0, 10)] == [held]
    assert [mail.held for mail in store.inbox_of(target.key, 0, 10)] == [held]


def test_mail_for_nobody_is_kept(lane: Lane, store: Store) -> None:
    lane.commit(inbox_new=[message(lane.first + 2, lane.first + 1)])
    assert [(mail.id, mail.held) for mail in store.inbox(0, 10)] == [(lane.first + 2, False)]
