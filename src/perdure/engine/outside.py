"""Starts and messages from a process that does not host the store.

Such a process only inserts: an instance whose id is new, or a message that the host takes up within a few hundredths of
a second if it runs, else when it starts. It cannot know which functions the host serves, nor begin an ended instance
anew; for that it has to ask the host.
"""

from __future__ import annotations

from perdure.core.codec import encode_message
from perdure.core.errors import InstanceEnded, InstanceExists, InstanceNotFound, WrongStatus
from perdure.core.events import CONTROLS, Control, EventRaised, ExecutionResumed, ExecutionSuspended
from perdure.core.ids import RANDOM_ID_BITS, check_instance_id, check_name, check_unicode, new_instance_id
from perdure.core.protocols import StartRequest
from perdure.core.runtime import Runtime
from perdure.core.state import ENDED
from perdure.core.turn import Fresh, Start, begin
from perdure.engine.doors import check_start
from perdure.store.api import InboxRow, Store


def submit_start(store: Store, runtime: Runtime, start: StartRequest) -> str:
    """Insert a new instance and return its id. Raises InvalidRequest, InstanceExists."""
    check_start(start)
    made = new_instance_id(runtime.now(), runtime.random_bits(RANDOM_ID_BITS))
    instance_id = made if start.instance_id is None else check_instance_id(start.instance_id)
    _, checkpoint = begin(
        Start(start.name, start.version, start.input, None, start.request_id),
        key=0,
        id=instance_id,
        execution=Fresh(runtime.random_bits(63), f"{runtime.random_bits(64):016x}"),
        now=runtime.now(),
    )
    assert checkpoint.record is not None
    other = store.submit_start(checkpoint.row, checkpoint.record)
    if other is not None and not (start.request_id is not None and other.request_id == start.request_id):
        raise InstanceExists(other.status)
    return instance_id


def submit_message(store: Store, instance_id: str, event: EventRaised | Control) -> None:
    """Insert a message. Raises InstanceNotFound, InstanceEnded, WrongStatus, InvalidRequest."""
    if isinstance(event, EventRaised):
        check_name(event.name, "The event name")
        check_unicode(event.input or "", "The event's input")
    else:
        check_unicode(event.reason or "", "The reason")
    row = store.find([instance_id]).get(instance_id)
    if row is None:
        raise InstanceNotFound(f"No instance with ID '{instance_id}' found.")
    if row.status in ENDED:
        raise InstanceEnded(instance_id, row.status)
    if isinstance(event, ExecutionSuspended) and row.status == "Suspended":
        raise WrongStatus("suspend", instance_id, row.status)
    if isinstance(event, ExecutionResumed) and row.status != "Suspended" and row.parked is None:
        raise WrongStatus("resume", instance_id, row.status)
    control = isinstance(event, CONTROLS)
    store.submit_message(InboxRow(0, row.key, 0, control, encode_message(event)))
