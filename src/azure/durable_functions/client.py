"""Starts, steers and reads orchestrations from other functions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote, urlsplit

from azure.durable_functions import absent
from azure.durable_functions.arguments import kind_of, require_moment_or_none, require_text, require_text_or_none
from azure.durable_functions.serialization import df_dumps_of
from azure.durable_functions.status import (
    DurableOrchestrationStatus,
    OrchestrationRuntimeStatus,
    PurgeHistoryResult,
)
from azure.functions import HttpRequest, HttpResponse

from perdure.core.errors import CallerError, InstanceEnded, InstanceExists, InstanceNotFound
from perdure.core.events import TurnRecord
from perdure.core.protocols import InstanceQuery, StartRequest, TaskHub
from perdure.core.state import InstanceRow

HistoryView = Callable[[Sequence[TurnRecord], bool, bool], Sequence[Mapping[str, Any]]]
"""Records, whether to show inputs, whether to show outputs: the HTTP API's `historyEvents`."""

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)
_PAGE = 1000


class DurableClientError(Exception):
    """The task hub refused a request. `error` says why, by its class.

    It is no `__cause__`: a traceback shows the user's lines and not those of the engine.
    """

    def __init__(self, message: Any, error: CallerError | None = None) -> None:
        super().__init__(message)
        self.error = error


class DurableOrchestrationClient:
    """Given to a function by `durable_client_input`.

    Made from the JSON text of a client binding it knows the URLs of the management API; the host that serves the app
    connects it to its task hub.
    """

    def __init__(self, context_json: str, function_invocation_id: str | None = None) -> None:
        """Raises ValueError for text that is not a client binding."""
        try:
            binding = json.loads(context_json)
            self._management_urls: dict[str, str] = dict(binding["managementUrls"])
            self._task_hub_name: str = binding["taskHubName"]
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"This is not the JSON text of a durable client binding: {error!r}") from error
        self._function_invocation_id = function_invocation_id
        self._hub: TaskHub | None = None
        self._history_view: HistoryView | None = None

    @property
    def task_hub_name(self) -> str:
        return self._task_hub_name

    # --- starting ----------------------------------------------------------------------------------------------------

    async def start_new(
        self,
        orchestration_function_name: str,
        instance_id: str | None = None,
        client_input: Any = None,
        version: str | None = None,
    ) -> str:
        """Start an orchestration and return its instance id, once it is durable.

        Raises DurableClientError if nobody serves the function, the id is not allowed or belongs to a running instance,
        TypeError for arguments of a wrong type.
        """
        method = "start_new"
        require_text(method, "orchestration_function_name", orchestration_function_name)
        require_text_or_none(method, "instance_id", instance_id, "; did you mean client_input=?")
        require_text_or_none(method, "version", version)
        request = StartRequest(
            name=orchestration_function_name,
            instance_id=instance_id or None,
            input=None if client_input is None else df_dumps_of("start_new", "client_input", client_input),
            version=version,
        )
        try:
            return await self._connected().start(request)
        except InstanceExists as error:
            # The original passes on the body of the HTTP answer, a dict.
            raise DurableClientError(
                {
                    "Message": "Something went wrong while processing your request",
                    "ExceptionMessage": str(error),
                    "ExceptionType": "System.InvalidOperationException",
                },
                error,
            ) from None
        except CallerError as error:
            raise DurableClientError(str(error), error) from None

    # --- steering ----------------------------------------------------------------------------------------------------

    async def raise_event(
        self,
        instance_id: str,
        event_name: str,
        event_data: Any = None,
        task_hub_name: str | None = None,
        connection_name: str | None = None,
    ) -> None:
        """Send an external event, which the orchestrator gets as `event_data`, decoded.

        Raises ValueError for an empty name or another task hub, DurableClientError if there is no such instance or it
        has ended, TypeError for arguments of a wrong type.
        """
        method = "raise_event"
        require_text(method, "instance_id", instance_id)
        if not event_name:
            raise ValueError("event_name must be a valid string.")
        require_text(method, "event_name", event_name)
        require_text_or_none(method, "task_hub_name", task_hub_name)
        hub = self._connected()
        if connection_name is not None or (task_hub_name is not None and task_hub_name.lower() != hub.name.lower()):
            raise ValueError(f"This client reaches the task hub '{hub.name}' and no other.")
        text = df_dumps_of("raise_event", "event_data", event_data)
        try:
            await hub.raise_event(instance_id, event_name, text, source="client")
        except InstanceNotFound as error:
            raise DurableClientError(f"No instance with ID {instance_id} found.", error) from None
        except InstanceEnded as error:
            raise DurableClientError(
                f"Instance with ID {instance_id} is gone: either completed or failed", error
            ) from None
        except CallerError as error:
            raise DurableClientError(str(error), error) from None

    async def terminate(self, instance_id: str, reason: str) -> None:
        """End an instance with `reason` as its output; no effect on one that has ended.

        Raises DurableClientError if there is no such instance.
        """
        await self._steer("terminate", instance_id, reason)

    async def suspend(self, instance_id: str, reason: str) -> None:
        """Hold an instance; no effect on one that has ended.

        Raises DurableClientError if there is no such instance or it is suspended.
        """
        await self._steer("suspend", instance_id, reason)

    async def resume(self, instance_id: str, reason: str) -> None:
        """Let a suspended instance go on; no effect on one that has ended.

        Raises DurableClientError if there is no such instance or it is not suspended.
        """
        await self._steer("resume", instance_id, reason)

    async def purge_instance_history(self, instance_id: str) -> PurgeHistoryResult:
        """Delete an instance that has ended. Raises DurableClientError if it has not."""
        require_text("purge_instance_history", "instance_id", instance_id)
        try:
            await self._connected().purge(instance_id)
        except InstanceNotFound:
            return PurgeHistoryResult(0)
        except CallerError as error:
            raise DurableClientError(str(error), error) from None
        return PurgeHistoryResult(1)

    async def _steer(self, verb: Literal["terminate", "suspend", "resume"], instance_id: str, reason: str) -> None:
        require_text(verb, "instance_id", instance_id)
        require_text_or_none(verb, "reason", reason)
        hub = self._connected()
        try:
            match verb:
                case "terminate":
                    await hub.terminate(instance_id, reason)
                case "suspend":
                    await hub.suspend(instance_id, reason)
                case "resume":
                    await hub.resume(instance_id, reason)
        except InstanceNotFound as error:
            raise DurableClientError(f"No instance with ID '{instance_id}' found.", error) from None
        except InstanceEnded:
            return
        except CallerError as error:
            raise DurableClientError(str(error), error) from None

    # --- reading -----------------------------------------------------------------------------------------------------

    async def get_status(
        self,
        instance_id: str,
        show_history: bool = False,
        show_history_output: bool = False,
        show_input: bool = False,
    ) -> DurableOrchestrationStatus:
        """The instance's status, which is false if there is no such instance.

        Its input is always there; `show_input` is about the inputs in the history.
        """
        require_text("get_status", "instance_id", instance_id)
        hub = self._connected()
        row = await hub.get(instance_id)
        if row is None:
            return DurableOrchestrationStatus()
        if not show_history or row.status == "Pending":
            return DurableOrchestrationStatus.from_row(row)
        if self._history_view is None:
            raise RuntimeError("This client was connected without a view of histories, so it cannot show one.")
        try:
            records = await hub.history(instance_id)
        except InstanceNotFound:
            return DurableOrchestrationStatus()
        return DurableOrchestrationStatus.from_row(row, self._history_view(records, show_input, show_history_output))

    async def get_status_all(self) -> list[DurableOrchestrationStatus]:
        """The status of every instance, in order of creation."""
        return await self.get_status_by()

    async def get_status_by(
        self,
        created_time_from: datetime | None = None,
        created_time_to: datetime | None = None,
        runtime_status: Sequence[OrchestrationRuntimeStatus | str] | None = None,
        instance_id_prefix: str | None = None,
    ) -> list[DurableOrchestrationStatus]:
        """The status of all instances that meet every condition given, in order of creation.

        Times are inclusive; one without a time zone is taken to be UTC. `runtime_status` has statuses or their names.
        Raises TypeError for arguments of a wrong type, ValueError for the name of no status.
        """
        method = "get_status_by"
        require_moment_or_none(method, "created_time_from", created_time_from)
        require_moment_or_none(method, "created_time_to", created_time_to)
        require_text_or_none(method, "instance_id_prefix", instance_id_prefix)
        statuses = _status_names(method, runtime_status)
        hub = self._connected()
        found: list[DurableOrchestrationStatus] = []
        after = 0
        while True:
            page = await hub.query(
                InstanceQuery(
                    created_from=_micros(created_time_from),
                    created_to=_micros(created_time_to),
                    statuses=statuses,
                    id_prefix=instance_id_prefix,
                    after_key=after,
                    limit=_PAGE,
                )
            )
            found.extend(DurableOrchestrationStatus.from_row(row) for row in page)
            if len(page) < _PAGE:
                return found
            after = page[-1].key

    async def wait_for_completion_or_create_check_status_response(
        self,
        request: HttpRequest,
        instance_id: str,
        timeout_in_milliseconds: int = 10000,
        retry_interval_in_milliseconds: int = 1000,
    ) -> HttpResponse:
        """The output once the instance has ended, the check-status response when that takes longer than the timeout.

        A Completed instance gives 200 with its output, a Terminated one 200 and a Failed one 500 with the status.
        """
        require_text("wait_for_completion_or_create_check_status_response", "instance_id", instance_id)
        if retry_interval_in_milliseconds > timeout_in_milliseconds:
            raise ValueError(
                f"Total timeout {timeout_in_milliseconds} (ms) should be bigger than retry timeout "
                f"{retry_interval_in_milliseconds} (ms)"
            )
        try:
            row = await self._connected().wait(instance_id, timeout_in_milliseconds / 1000)
        except InstanceNotFound:
            return self.create_check_status_response(request, instance_id)
        return self._ending(row) or self.create_check_status_response(request, instance_id)

    @staticmethod
    def _ending(row: InstanceRow) -> HttpResponse | None:
        status = DurableOrchestrationStatus.from_row(row)
        match row.status:
            case "Completed":
                return _json_response(200, status.output)
            case "Terminated":
                return _json_response(200, status.to_json())
            case "Failed":
                return _json_response(500, status.to_json())
            case _:
                return None

    # --- links -------------------------------------------------------------------------------------------------------

    def create_check_status_response(self, request: HttpRequest, instance_id: str) -> HttpResponse:
        """202 with the URLs that manage the instance, and the place to ask for its status."""
        require_text("create_check_status_response", "instance_id", instance_id)
        links = self.get_client_response_links(request, instance_id)
        return HttpResponse(
            status_code=202,
            body=json.dumps(links),
            headers={
                "Content-Type": "application/json",
                "Location": links["statusQueryGetUri"],
                "Retry-After": "10",
            },
            mimetype="application/json",
        )

    def create_http_management_payload(self, instance_id: str) -> dict[str, str]:
        """The URLs that manage the instance, at the address that the host has for itself."""
        require_text("create_http_management_payload", "instance_id", instance_id)
        return self.get_client_response_links(None, instance_id)

    def get_client_response_links(self, request: HttpRequest | None, instance_id: str) -> dict[str, str]:
        """The URLs that manage the instance, at the address to which `request` was sent."""
        require_text("get_client_response_links", "instance_id", instance_id)
        placeholder = self._management_urls["id"]
        links = {"id": instance_id}
        for name, template in self._management_urls.items():
            if name == "id":
                continue
            url = template.replace(placeholder, quote(instance_id, safe=":@"))
            links[name] = url if request is None else _at_origin(url, request.url)
        return links

    def _connected(self) -> TaskHub:
        if self._hub is None:
            raise RuntimeError(
                "This client is not connected to a task hub. Clients that the host passes to a function with "
                "durable_client_input are, while the app is served by `perdure start`."
            )
        return self._hub

    # Type checkers are not shown it: to them every name would be there.
    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> object:
            raise absent.attribute_error(f"{type(self).__name__!r} object", name, absent.CLIENT)


def connect_client(
    binding_json: str,
    hub: TaskHub,
    history_view: HistoryView | None = None,
    function_invocation_id: str | None = None,
) -> DurableOrchestrationClient:
    """A client whose requests go to `hub`."""
    client = DurableOrchestrationClient(binding_json, function_invocation_id)
    client._hub = hub
    client._history_view = history_view
    return client


def _json_response(status_code: int, body: Any) -> HttpResponse:
    return HttpResponse(
        status_code=status_code,
        body=body if isinstance(body, str) else json.dumps(body),
        headers={"Content-Type": "application/json"},
        mimetype="application/json",
    )


def _at_origin(url: str, address: str) -> str:
    here = urlsplit(address)
    if not here.scheme or not here.netloc:
        return url
    return urlsplit(url)._replace(scheme=here.scheme, netloc=here.netloc).geturl()


def _status_names(method: str, statuses: Sequence[OrchestrationRuntimeStatus | str] | None) -> tuple[str, ...]:
    if statuses is None:
        return ()
    if isinstance(statuses, (str, OrchestrationRuntimeStatus)) or not isinstance(statuses, Iterable):
        raise TypeError(
            f"{method}: runtime_status must be a list of OrchestrationRuntimeStatus or of their names, "
            f"not {kind_of(statuses)}"
        )
    try:
        return tuple(OrchestrationRuntimeStatus(status).value for status in statuses)
    except ValueError as error:
        known = ", ".join(status.value for status in OrchestrationRuntimeStatus)
        raise ValueError(f"{method}: runtime_status: {error}; there are {known}") from None


def _micros(moment: datetime | None) -> int | None:
    if moment is None:
        return None
    if moment.utcoffset() is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return (moment - _EPOCH) // _MICROSECOND
