"""What an orchestrator sees of its instance."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol, Union

from azure.durable_functions import absent
from azure.durable_functions.arguments import exact, kind_of, require_text, require_text_or_none
from azure.durable_functions.retry import RetryOptions
from azure.durable_functions.serialization import df_dumps_of, df_loads, return_type, strict_typing
from azure.durable_functions.tasks import (
    ActivityTask,
    EventTask,
    RetryAbleTask,
    SubOrchestrationTask,
    TaskBase,
    TimerTask,
    WhenAllTask,
    WhenAnyTask,
)
from azure.durable_functions.triggers import ACTIVITY_TRIGGER, ORCHESTRATION_TRIGGER, served_name
from azure.functions.decorators.function_app import FunctionBuilder

from perdure.core.errors import InvalidRequest
from perdure.core.ids import check_instance_id, check_name, check_text

FunctionName = Union[str, Callable[..., Any], FunctionBuilder]
"""A name, or the function as its decorator left it."""

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)
_FIRST_MOMENT = (datetime.min.replace(tzinfo=timezone.utc) - EPOCH) // _MICROSECOND
_LAST_MOMENT = (datetime.max.replace(tzinfo=timezone.utc) - EPOCH) // _MICROSECOND
_UUID_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_OID, "9e952958-5e33-4daf-827f-2fa12937b875")
_STATUS_LIMIT_KB = 16


class Execution(Protocol):
    """What the context needs of the session it belongs to."""

    @property
    def now(self) -> int: ...

    @property
    def replaying(self) -> bool: ...

    def check_open(self) -> None:
        """Raises ContextClosed once the session is closed."""
        ...

    def continue_as_new(self, input: str) -> None: ...

    def set_custom_status(self, text: str | None) -> None: ...


class DurableOrchestrationContext:
    """The one way in which an orchestrator may learn or do anything.

    Its methods make tasks; a task is asked for when it is yielded.
    """

    __slots__ = (
        "_custom_status",
        "_execution",
        "_input",
        "_input_type",
        "_instance_id",
        "_now",
        "_now_micros",
        "_parent_instance_id",
        "_unique",
        "_version",
        "_will_continue_as_new",
    )

    def __init__(
        self,
        execution: Execution,
        instance_id: str,
        *,
        input: str | None = None,
        input_type: type | None = None,
        parent_instance_id: str | None = None,
        version: str | None = None,
    ) -> None:
        self._execution = execution
        self._instance_id = instance_id
        self._input = input
        self._input_type = input_type
        self._parent_instance_id = parent_instance_id
        self._version = version
        self._custom_status: Any = None
        self._will_continue_as_new = False
        self._unique = 0
        self._now = EPOCH
        self._now_micros = 0

    # --- facts -------------------------------------------------------------------------------------------------------

    @property
    def instance_id(self) -> str:
        return self._instance_id

    @property
    def parent_instance_id(self) -> str | None:
        """The orchestration that called this one, if one did."""
        return self._parent_instance_id

    @property
    def version(self) -> str | None:
        """The version that the instance was started with."""
        return self._version

    @property
    def is_replaying(self) -> bool:
        """Whether the code runs again over what it has done before. What is done only if False is done once."""
        return self._execution.replaying

    @property
    def current_utc_datetime(self) -> datetime:
        """The time of the turn, the same whenever the code runs again. Aware, in UTC."""
        self._execution.check_open()
        micros = self._execution.now
        if micros != self._now_micros:
            self._now_micros = micros
            self._now = EPOCH + timedelta(microseconds=micros)
        return self._now

    @property
    def custom_status(self) -> Any:
        """What `set_custom_status` was last given."""
        return self._custom_status

    @property
    def will_continue_as_new(self) -> bool:
        return self._will_continue_as_new

    def get_input(self, expected_type: type | None = None) -> Any:
        """The input, decoded afresh with each call; None if there is none.

        Raises what `df_loads` raises. `expected_type`, by default the decorator's `input_type`, matters in strict mode.
        """
        self._execution.check_open()
        if self._input is None:
            return None
        return df_loads(self._input, expected_type or self._input_type)

    # --- tasks -------------------------------------------------------------------------------------------------------

    def call_activity(self, name: FunctionName, input_: Any = None, expected_type: type | None = None) -> TaskBase:
        """A task for the activity's result. If it fails, TaskFailedError is raised where the task is yielded."""
        self._execution.check_open()
        return self._activity("call_activity", name, input_, expected_type)

    def call_activity_with_retry(
        self,
        name: FunctionName,
        retry_options: RetryOptions,
        input_: Any = None,
        expected_type: type | None = None,
    ) -> TaskBase:
        """As `call_activity`, tried again when it fails. The last attempt's failure is the one that is raised."""
        self._execution.check_open()
        _check_retry_options("call_activity_with_retry", retry_options)
        return RetryAbleTask(self._activity("call_activity_with_retry", name, input_, expected_type), retry_options)

    def call_sub_orchestrator(
        self,
        name: FunctionName,
        input_: Any = None,
        instance_id: str | None = None,
        version: str | None = None,
        expected_type: type | None = None,
    ) -> TaskBase:
        """A task for the output of another orchestration, started for it.

        Without `instance_id` the child gets an id of its own. Raises ValueError for an id that no orchestration can
        have, or that is this instance's or its parent's.
        """
        self._execution.check_open()
        return self._child("call_sub_orchestrator", name, input_, instance_id, version, expected_type)

    def call_sub_orchestrator_with_retry(
        self,
        name: FunctionName,
        retry_options: RetryOptions,
        input_: Any = None,
        instance_id: str | None = None,
        version: str | None = None,
        expected_type: type | None = None,
    ) -> TaskBase:
        """As `call_sub_orchestrator`, started again when it fails: with `instance_id` under the same id."""
        self._execution.check_open()
        _check_retry_options("call_sub_orchestrator_with_retry", retry_options)
        child = self._child("call_sub_orchestrator_with_retry", name, input_, instance_id, version, expected_type)
        return RetryAbleTask(child, retry_options)

    def create_timer(self, fire_at: datetime | timedelta) -> TimerTask:
        """A task that settles with None at `fire_at`, or at once if that has passed.

        A datetime without a time zone is taken to be UTC; a timedelta counts from `current_utc_datetime`.
        Raises ValueError for anything else, and for a time that no datetime can hold.
        """
        self._execution.check_open()
        if isinstance(fire_at, timedelta):
            return TimerTask(_in_range(self._execution.now + fire_at // _MICROSECOND))
        if not isinstance(fire_at, datetime):
            raise ValueError(
                f"fireAt: Expected valid datetime object but got {fire_at!r:.100}; "
                "create_timer takes a datetime or a timedelta"
            )
        if fire_at.tzinfo is None or fire_at.utcoffset() is None:
            fire_at = fire_at.replace(tzinfo=timezone.utc)
        return TimerTask((fire_at - EPOCH) // _MICROSECOND)

    def wait_for_external_event(self, name: str, expected_type: type | None = None) -> TaskBase:
        """A task for the payload of the next external event of that name, whatever its case."""
        self._execution.check_open()
        if not name:
            raise ValueError("external_event_name cannot be empty")
        require_text("wait_for_external_event", "name", name)
        return EventTask(name, expected_type)

    def task_all(self, activities: Iterable[TaskBase]) -> TaskBase:
        """A task for all results, in the order of `activities`; the first failure is raised at once."""
        self._execution.check_open()
        return WhenAllTask(_tasks("task_all", activities))

    def task_any(self, activities: Iterable[TaskBase]) -> TaskBase:
        """A task for the first of `activities` that settles, well or badly. Nothing is raised."""
        self._execution.check_open()
        return WhenAnyTask(_tasks("task_any", activities))

    # --- effects -----------------------------------------------------------------------------------------------------

    def continue_as_new(self, input_: Any) -> None:
        """Start over with `input_` and an empty history. What the code asks for afterwards does not count.

        External events that nobody has taken go to the next generation.
        """
        self._execution.check_open()
        self._execution.continue_as_new(df_dumps_of("continue_as_new", "the input", input_))
        self._will_continue_as_new = True

    def set_custom_status(self, status: Any) -> None:
        """Show `status` in the instance's status. Values that count as false clear it.

        Raises ValueError beyond 16 KB, counted as compact JSON in UTF-16.
        """
        self._execution.check_open()
        if status:
            text = df_dumps_of("set_custom_status", "the status", status)
            _check_status_size(text)
            self._execution.set_custom_status(text)
        else:
            self._execution.set_custom_status(None)
        self._custom_status = status

    def new_guid(self) -> uuid.UUID:
        """A unique id, the same whenever the code runs again."""
        return uuid.uuid5(uuid.NAMESPACE_URL, f"{self._instance_id}_{self.current_utc_datetime}_{self._count()}")

    def new_uuid(self) -> str:
        """As `new_guid`, as text and of another series."""
        moment = self.current_utc_datetime.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return str(uuid.uuid5(_UUID_NAMESPACE, f"{self._instance_id}_{moment}_{self._count()}"))

    def _count(self) -> int:
        self._execution.check_open()
        self._unique += 1
        return self._unique - 1

    def _activity(self, method: str, name: FunctionName, input_: Any, expected_type: type | None) -> ActivityTask:
        if not isinstance(name, str):
            expected_type = expected_type or _declared_result(name)
            name = _resolve(name, method, ACTIVITY_TRIGGER)
        if type(name) is not str:
            name = exact(name)
        _check(name)
        return ActivityTask(name, df_dumps_of(method, "the input", input_, name), expected_type)

    def _child(
        self,
        method: str,
        name: FunctionName,
        input_: Any,
        instance_id: str | None,
        version: str | None,
        expected_type: type | None,
    ) -> SubOrchestrationTask:
        if not isinstance(name, str):
            expected_type = expected_type or _declared_result(name)
            name = _resolve(name, method, ORCHESTRATION_TRIGGER)
        name = exact(name)
        _check(name)
        require_text_or_none(method, "instance_id", instance_id)
        require_text_or_none(method, "version", version)
        if version is not None:
            version = exact(version)
            _check_text(version, f"{method}: version")
        if instance_id:
            instance_id = exact(instance_id)
            if instance_id in (self._instance_id, self._parent_instance_id):
                raise ValueError(
                    "The instance ID of a sub-orchestration must be different than the instance ID of a parent "
                    "orchestration."
                )
            try:
                check_instance_id(instance_id)
            except InvalidRequest as error:
                raise ValueError(str(error)) from None
        text = df_dumps_of(method, "the input", input_, name)
        return SubOrchestrationTask(name, text, instance_id or None, version, expected_type)

    # Type checkers are not shown it: to them every name would be there.
    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> object:
            raise absent.attribute_error(f"{type(self).__name__!r} object", name, absent.CONTEXT)


@lru_cache(1024)
def _check(name: str) -> None:
    if not name:
        raise ValueError("function_name cannot be empty")
    try:
        check_name(name, "The function's name")
    except InvalidRequest as error:
        raise ValueError(str(error)) from None


def _resolve(function: object, method: str, trigger_type: str) -> str:
    """The name of a function that is given as its decorator left it.

    Raises ValueError for any other function, TypeError for what is none.
    """
    if not callable(function):
        raise TypeError(f"{method}: name must be a str or a decorated function, not {kind_of(function)}")
    wanted = trigger_type[0].upper() + trigger_type[1:]
    if not isinstance(function, FunctionBuilder):
        kind = "activity" if trigger_type == ACTIVITY_TRIGGER else "orchestrator"
        decorator = "activity_trigger" if trigger_type == ACTIVITY_TRIGGER else "orchestration_trigger"
        raise ValueError(
            f"The `{method}` API received a `Callable` without an associated Azure Functions trigger-type. Please "
            f"ensure you're using the Python programming model V2 and that your {kind} function is annotated with the "
            f"`{decorator}` decorator. Otherwise, provide in the name of the {kind} as a string."
        )
    declared = function._function
    trigger = declared.get_trigger()
    if trigger is None or trigger.type != trigger_type:
        found = "None" if trigger is None else trigger.type
        raise ValueError(
            f"Received function with Trigger-type `{found}` but expected `{wanted}`. Ensure your function is annotated "
            f"with the `{wanted}` decorator or directly pass in the name of the function as a string."
        )
    return served_name(declared)


def _check_retry_options(method: str, options: object) -> None:
    if not isinstance(options, RetryOptions):
        raise TypeError(
            f"{method}: retry_options must be a RetryOptions, not {kind_of(options)}; the input comes after it"
        )


def _declared_result(function: object) -> Any:
    if isinstance(function, FunctionBuilder) and strict_typing():
        return return_type(function._function.get_user_function())
    return None


def _tasks(method: str, tasks: Iterable[TaskBase]) -> list[TaskBase]:
    if not isinstance(tasks, Iterable):
        raise TypeError(f"{method} takes a list of tasks, not {kind_of(tasks)}")
    children = list(tasks)
    for child in children:
        if not isinstance(child, TaskBase):
            raise TypeError(f"{method} takes tasks, such as context.call_activity gives, not {child!r:.100}.")
    return children


def _check_status_size(text: str) -> None:
    if len(text) * 2 < (_STATUS_LIMIT_KB + 1) * 1024:
        return
    compact = json.dumps(json.loads(text), ensure_ascii=False, separators=(",", ":"))
    size = len(compact.encode("utf-16-le", "surrogatepass")) // 1024
    if size > _STATUS_LIMIT_KB:
        raise ValueError(
            f"The UTF-16 size of the JSON-serialized payload must not exceed {_STATUS_LIMIT_KB} KB. "
            f"The current payload size is {size} KB."
        )


def _in_range(fire_at: int) -> int:
    if not _FIRST_MOMENT <= fire_at <= _LAST_MOMENT:
        raise ValueError("create_timer: the time is outside of what a datetime can hold (the years 1 to 9999)")
    return fire_at


def _check_text(text: str, what: str) -> None:
    try:
        check_text(text, what)
    except InvalidRequest as error:
        raise ValueError(str(error)) from None
