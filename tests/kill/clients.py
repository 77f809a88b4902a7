"""Clients that keep the host busy and put up with its death: what they do not know, they ask, and do again.

All run on one thread beside the test, which tells them where the host is. A client starts an instance, raises its
events, follows it to its end and begins another. What it was told is kept: it is what the host has promised.
"""

from __future__ import annotations

import asyncio
import random
import threading
from pathlib import Path
from typing import Any

import httpx
from workload import KINDS, TAKE_EVENTS, Given

ENDED = ("Completed", "Failed", "Terminated")
_LOOK_AGAIN_SECONDS = 0.1
_WEBHOOKS = "/runtime/webhooks/durabletask"


class BrokenPromise(AssertionError):
    """The host denies what it has acknowledged, or answers what it must not."""


class GoneAway(Exception):
    """The test is over; what the client still wanted is of no interest."""


class Sent:
    """One event: how often it was raised, and whether that was ever acknowledged."""

    def __init__(self) -> None:
        self.raised = 0
        self.acknowledged = False


class Run:
    """One instance that a client has started, and what is known of it."""

    def __init__(self, kind: str, given: Given) -> None:
        self.kind = kind
        self.given = given
        self.id: str = given["key"]
        self.events: dict[int, Sent] = {}
        self.ended: dict[str, Any] | None = None
        """The status in which its end was first seen."""
        self.ledger_at_end = 0
        """How much of the ledger, in bytes, was written when that was seen."""
        self.ended_in = 0
        """Process id of the host that told it."""


class Clients(threading.Thread):
    """`count` of them. When one fails, all end."""

    def __init__(self, seed: int, count: int, ledger: Path) -> None:
        super().__init__(name="clients", daemon=True)
        self._seed = seed
        self._count = count
        self._ledger = ledger
        self._url: str | None = None
        self._pid = 0
        self._ordinal = 0
        self._last_round = False
        self._over = False
        self._failure: BaseException | None = None
        self.runs: list[Run] = []
        self.unknown = 0
        """Requests whose answer was lost with the host."""

    # --- told by the test --------------------------------------------------------------------------------------------

    def host_is_at(self, url: str, pid: int) -> None:
        self._pid = pid
        self._ordinal += 1
        self._url = url

    def host_is_gone(self) -> None:
        self._url = None

    def finish(self) -> None:
        """Begin nothing more; the thread ends once all instances have."""
        self._last_round = True

    def check(self) -> None:
        """Raises what a client has failed with, if one has."""
        if self._failure is not None:
            raise self._failure

    def go_away(self) -> None:
        """End now, whatever is under way."""
        self._over = True
        if self.is_alive():
            self.join()

    # --- on the clients' thread --------------------------------------------------------------------------------------

    def run(self) -> None:
        try:
            asyncio.run(self._run_all())
        except GoneAway:
            pass
        except BaseException as error:
            self._failure = error

    async def _run_all(self) -> None:
        limits = httpx.Limits(max_connections=self._count)
        async with httpx.AsyncClient(timeout=60, limits=limits) as http:
            await asyncio.gather(*(Client(self, http, self._seed, number).live() for number in range(self._count)))

    async def host(self, after: int = 0) -> tuple[str, int]:
        """The URL of the host, once there is one, and which it is; one that came after that number. Raises GoneAway."""
        while True:
            if self._over:
                raise GoneAway
            if self._url is not None and self._ordinal > after:
                return self._url, self._ordinal
            await asyncio.sleep(0.01)

    @property
    def pid(self) -> int:
        return self._pid

    @property
    def last_round(self) -> bool:
        return self._last_round

    def ledger_size(self) -> int:
        return self._ledger.stat().st_size


class Client:
    def __init__(self, clients: Clients, http: httpx.AsyncClient, seed: int, number: int) -> None:
        self._clients = clients
        self._http = http
        self._number = number
        self._random = random.Random(f"{seed}/{number}")

    async def live(self) -> None:
        begun = 0
        while not self._clients.last_round:
            kind = self._random.choice(list(KINDS))
            run = Run(kind, {"key": f"{kind}-{self._number}-{begun}", **KINDS[kind].draw(self._random)})
            self._clients.runs.append(run)
            await self._start(run)
            if kind in TAKE_EVENTS:
                await self._send_events(run)
            elif kind == "endless":
                await asyncio.sleep(run.given["stop_after_ms"] / 1000)
                await self._terminate(run)
            await self._follow(run)
            begun += 1

    async def _start(self, run: Run) -> None:
        while True:
            answer = await self._ask("POST", f"/orchestrators/{run.kind}/{run.id}", run.given)
            if answer is not None:
                _expect(answer, 202, f"start of {run.id}")
                return
            if await self._status(run.id) is not None:
                return

    async def _send_events(self, run: Run) -> None:
        """One after the other, so that their order is known; again if it is not known whether one arrived."""
        pause_before = self._random.randint(1, 2 * run.given["last"])
        for number in range(1, run.given["last"] + 1):
            if number == pause_before:
                await self._suspend(run)
            sent = run.events[number] = Sent()
            while not sent.acknowledged:
                sent.raised += 1
                answer = await self._ask("POST", f"/instances/{run.id}/raiseEvent/Number", number)
                if answer is None:
                    continue
                if answer.status_code == 410 and sent.raised > 1 and number == run.given["last"]:
                    return  # it had arrived before, and was the last one needed
                _expect(answer, 202, f"event {number} for {run.id}")
                sent.acknowledged = True
            if number == pause_before:
                await self._resume(run)
            await asyncio.sleep(self._random.choice([0, 0, 0.01, 0.1]))

    async def _suspend(self, run: Run) -> None:
        while (await self._known_status(run))["runtimeStatus"] != "Suspended":
            await self._steer(run, "suspend?reason=a+pause", "is in the Suspended state")

    async def _resume(self, run: Run) -> None:
        while (await self._known_status(run))["runtimeStatus"] == "Suspended":
            await self._steer(run, "resume?reason=over", "Cannot resume")

    async def _terminate(self, run: Run) -> None:
        while (await self._known_status(run))["runtimeStatus"] not in ENDED:
            await self._steer(run, f"terminate?reason=enough+of+{run.id}", None)

    async def _steer(self, run: Run, verb: str, done_before: str | None) -> None:
        """Ask for it once; `done_before` is in the refusal of what an earlier request has done already."""
        answer = await self._ask("POST", f"/instances/{run.id}/{verb}")
        if answer is None or answer.status_code == 410:
            return
        if answer.status_code == 500 and done_before is not None and done_before in answer.text:
            return
        _expect(answer, 202, f"{verb} of {run.id}")

    async def _follow(self, run: Run) -> None:
        while True:
            status = await self._known_status(run)
            if status["runtimeStatus"] in ENDED:
                run.ledger_at_end = self._clients.ledger_size()
                run.ended_in = self._clients.pid
                run.ended = status
                return
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)

    async def _known_status(self, run: Run) -> dict[str, Any]:
        status = await self._status(run.id)
        if status is None:
            raise BrokenPromise(f"{run.id} was started, and is not there")
        return status

    async def _status(self, instance_id: str) -> dict[str, Any] | None:
        while True:
            answer = await self._ask("GET", f"/instances/{instance_id}")
            if answer is None:
                continue
            if answer.status_code == 404:
                return None
            if answer.status_code not in (200, 202):
                _expect(answer, 200, f"status of {instance_id}")
            return answer.json()

    async def _ask(self, method: str, path: str, body: Any = None) -> httpx.Response | None:
        """The answer of the host that is there, or will be; None if it died before the answer came."""
        url, ordinal = await self._clients.host()
        content = {} if body is None else {"json": body}
        try:
            return await self._http.request(method, url + _WEBHOOKS + path, **content)
        except httpx.TransportError:
            self._clients.unknown += 1
            await self._clients.host(after=ordinal)
            return None


def _expect(answer: httpx.Response, code: int, what: str) -> None:
    if answer.status_code != code:
        raise BrokenPromise(f"{what}: the host answers {answer.status_code}, not {code}: {answer.text[:500]}")
