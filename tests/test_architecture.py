"""The shape of the source: who may import what, and how large a module may grow.

Imports point down, cli -> host -> engine -> store -> core. The core does no I/O; engine and stores reach time,
randomness, threads and sleep through the `Runtime` port alone, so that the whole engine runs in one thread from a seed.
The rules are the tables below; each message says what to do instead. The second half plants violations in a made-up
tree and sees them caught.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

SRC = Path(__file__).resolve().parent.parent / "src"
LARGEST_MODULE = 700
SHAPELESS_NAMES = {"utils", "util", "helpers", "helper", "common", "misc"}

# Room -> the rooms it may import, itself always included. A room that is not here is refused until it is given a place.
ROOMS: dict[str, set[str]] = {
    "perdure": set(),
    "perdure.__main__": {"perdure.cli"},
    "perdure.core": set(),
    "perdure.store": {"perdure.core"},
    "perdure.engine": {"perdure.core", "perdure.store"},
    "perdure.runtime": {"perdure.core"},
    "perdure.testing": {"perdure.core", "perdure.store", "perdure.engine", "perdure.runtime"},
    "perdure.host": {"perdure", "perdure.core", "azure.durable_functions"},
    "perdure.bench": {"perdure.core", "perdure.store", "perdure.host", "azure.durable_functions"},
    "perdure.cli": {"perdure", "perdure.core", "perdure.host", "perdure.bench"},
    "azure.durable_functions": {"perdure.core"},
}
JOINTS: dict[str, set[str]] = {
    "perdure.host.app": {"perdure.store", "perdure.engine", "perdure.runtime"},
    "perdure.host.hub": {"perdure.store", "perdure.engine"},
}
"""Single modules that may know more than their room: `app` puts the host together, `hub` is the engine's TaskHub."""

# Modules of the standard library that compute and do nothing else. Add to it what neither reads a clock or a source of
# randomness, nor opens a file, a socket, a thread or a process.
PURE = {
    "__future__", "abc", "base64", "binascii", "bisect", "codecs", "collections", "contextlib", "copy", "dataclasses",
    "datetime", "decimal", "difflib", "enum", "fractions", "functools", "hashlib", "heapq", "hmac", "inspect",
    "itertools", "json", "math", "numbers", "operator", "re", "string", "struct", "textwrap", "traceback", "types",
    "typing", "unicodedata", "uuid", "warnings", "weakref", "zlib",
}  # fmt: skip
FILES = {
    "errno", "fcntl", "importlib", "io", "logging", "msvcrt", "os", "pathlib", "platform", "shutil", "socket", "stat",
    "sys", "tempfile",
}  # fmt: skip

# Module prefix -> what of the outside it may import. The longest prefix that fits counts; where none does, all is free.
OUTSIDE: dict[str, set[str]] = {
    "perdure.core": PURE | {"msgspec"},
    "perdure.store": PURE | {"msgspec", "threading", "urllib"},
    "perdure.store.urls": PURE | {"pathlib", "urllib"},
    "perdure.store.sqlite": PURE | FILES | {"msgspec", "apsw", "threading", "urllib"},
    "perdure.engine": PURE | {"msgspec", "logging"},
}
# Names that a permitted module offers and that are refused all the same: (room, module) -> the only names allowed.
ONLY: dict[tuple[str, str], set[str]] = {
    ("perdure.store", "threading"): {"Lock", "RLock"},
}
INTERNET = {"urllib.request", "urllib.error", "urllib.robotparser"}
SIMULATED = ("perdure.core", "perdure.store", "perdure.engine")
"""Rooms that run unchanged in simulation: nothing in them may differ from one run of a seed to the next."""
CLOCKS = {("datetime", "now"), ("datetime", "utcnow"), ("datetime", "today"), ("date", "today")}
RANDOM_IDS = {("uuid", "uuid1"), ("uuid", "uuid4"), ("uuid", "getnode")}
REFUSED_CALLS = {
    "open": "files belong to store/sqlite",
    "input": "nothing here talks to a terminal",
    "print": "use the logger of the room, or return the text",
    "breakpoint": "take it out",
    "hash": "the hash of a text differs from process to process; use zlib.crc32 or hashlib",
}
POSIX_ONLY = {"crypt", "fcntl", "grp", "nis", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}


class Violation(NamedTuple):
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


class Module(NamedTuple):
    name: str
    path: Path
    source: str
    tree: ast.Module

    def at(self, node: ast.AST, what: str) -> Violation:
        return Violation(f"{self.path.as_posix()}:{getattr(node, 'lineno', 1)}", what)


class Import(NamedTuple):
    node: ast.AST
    target: str
    """The module imported, as far as it is ours; of others the dotted name as written."""
    names: tuple[str, ...]
    """What is taken from it by `from ... import`."""


def read_modules(src: Path) -> dict[str, Module]:
    modules: dict[str, Module] = {}
    for path in sorted(src.rglob("*.py")):
        parts = path.relative_to(src).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        source = path.read_text(encoding="utf-8")
        modules[name] = Module(name, path.relative_to(src), source, ast.parse(source, str(path)))
    return modules


def imports_of(module: Module, modules: dict[str, Module]) -> Iterator[Import]:
    packages = {name.rpartition(".")[0] for name in modules}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(node, alias.name, ())
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module.name.split(".")
                is_package = module.path.name == "__init__.py"
                base = ".".join([*package[: len(package) - node.level + is_package], *filter(None, [base])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                ours = inner in modules or inner in packages
                yield Import(node, inner, ()) if ours else Import(node, base, (alias.name,))


def within(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def room_of(name: str) -> str | None:
    """The room of a module of ours, None for any other module."""
    for prefix in ("perdure", "azure.durable_functions"):
        if within(name, prefix):
            return ".".join(name.split(".")[:2])
    return None


# --- the rules -------------------------------------------------------------------------------------------------------


def check_rooms(modules: dict[str, Module]) -> Iterator[Violation]:
    for module in modules.values():
        room = room_of(module.name)
        if room not in ROOMS:
            yield module.at(module.tree, f"the room {room} has no place yet; give it one in ROOMS of {__name__}")
            continue
        allowed = ROOMS[room] | {room} | JOINTS.get(module.name, set())
        for taken in imports_of(module, modules):
            other = room_of(taken.target)
            if other is not None and other not in allowed:
                yield module.at(
                    taken.node,
                    f"{module.name} imports {taken.target}, but {room} may know only {', '.join(sorted(allowed))}; "
                    f"pass what is needed as an argument, or describe it in perdure.core.protocols "
                    f"and let perdure.host.app join the two",
                )


def check_outside(modules: dict[str, Module]) -> Iterator[Violation]:
    for module in modules.values():
        prefixes = [prefix for prefix in OUTSIDE if within(module.name, prefix)]
        if not prefixes:
            continue
        allowed = OUTSIDE[max(prefixes, key=len)]
        room = room_of(module.name)
        for taken in imports_of(module, modules):
            top = taken.target.split(".")[0]
            if room_of(taken.target) is not None:
                continue
            if top not in allowed or taken.target in INTERNET:
                yield module.at(
                    taken.node,
                    f"{module.name} imports {taken.target}; {room} gets time, randomness, threads and sleep through "
                    f"perdure.core.runtime.Runtime, and leaves files and sockets to store/sqlite and to the host "
                    f"(a module that only computes may be added to PURE of {__name__})",
                )
            for name in taken.names:
                if name not in ONLY.get((room or "", top), {name}):
                    yield module.at(taken.node, _only(module, room, f"{top}.{name}", top))
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                top, name = node.value.id, node.attr
                if name not in ONLY.get((room or "", top), {name}):
                    yield module.at(node, _only(module, room, f"{top}.{name}", top))


def _only(module: Module, room: str | None, used: str, top: str) -> str:
    allowed = ", ".join(sorted(ONLY[room or "", top]))
    return f"{module.name} uses {used}; of {top}, {room} may use only {allowed}: threads come from the Runtime port"


def check_determinism(modules: dict[str, Module]) -> Iterator[Violation]:
    for module in modules.values():
        if not any(within(module.name, room) for room in SIMULATED):
            continue
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Attribute):
                owner = node.value.attr if isinstance(node.value, ast.Attribute) else getattr(node.value, "id", "")
                if (owner, node.attr) in CLOCKS:
                    yield module.at(
                        node, f"{module.name} reads the clock by {owner}.{node.attr}; take `now` as an argument"
                    )
                if (owner, node.attr) in RANDOM_IDS:
                    yield module.at(
                        node, f"{module.name} makes an id by {owner}.{node.attr}; use Runtime.random_bits or core.ids"
                    )
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in REFUSED_CALLS:
                if node.func.id == "open" and within(module.name, "perdure.store.sqlite"):
                    continue
                reason = REFUSED_CALLS[node.func.id]
                yield module.at(node, f"{module.name} calls {node.func.id}(): {reason}")
        for taken in imports_of(module, modules):
            for name in taken.names:
                if (taken.target, name) in RANDOM_IDS:
                    yield module.at(taken.node, f"{module.name} imports {taken.target}.{name}; use Runtime.random_bits")


def check_portability(modules: dict[str, Module]) -> Iterator[Violation]:
    """Modules that only POSIX has are imported where their absence is caught, or behind a test of the platform."""
    for module in modules.values():
        guarded: set[int] = set()
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Try) or (isinstance(node, ast.If) and _asks_for_platform(node.test)):
                guarded.update(id(inner) for inner in ast.walk(node))
        for taken in imports_of(module, modules):
            if taken.target.split(".")[0] in POSIX_ONLY and id(taken.node) not in guarded:
                yield module.at(
                    taken.node,
                    f"{module.name} imports {taken.target}, which Windows lacks; put it under `if sys.platform` or "
                    f"`try`, with a way round",
                )


def _asks_for_platform(test: ast.expr) -> bool:
    asked = {node.attr for node in ast.walk(test) if isinstance(node, ast.Attribute)}
    return bool(asked & {"platform", "name"})


def check_shape(modules: dict[str, Module]) -> Iterator[Violation]:
    for module in modules.values():
        lines = module.source.count("\n")
        if lines > LARGEST_MODULE:
            yield module.at(
                module.tree, f"{module.name} has {lines} lines, more than {LARGEST_MODULE}; split it by subject"
            )
        if module.name.split(".")[-1] in SHAPELESS_NAMES:
            yield module.at(module.tree, f"{module.name} says nothing of its subject; name it by what it is about")
        private = any(part.startswith("_") for part in module.name.split("."))
        if not private and ast.get_docstring(module.tree) is None:
            yield module.at(module.tree, f"{module.name} has no docstring; say in a sentence what it is for")
        for number, line in enumerate(module.source.splitlines(), 1):
            for word in ("TODO", "FIXME", "XXX"):
                if word in line:
                    yield Violation(f"{module.path.as_posix()}:{number}", f"{word}: finish it, or take it out")
        if any(isinstance(node, ast.ImportFrom) and node.level for node in ast.walk(module.tree)):
            yield module.at(module.tree, f"{module.name} imports relatively; write the full name")


def check_namespace(modules: dict[str, Module]) -> Iterator[Violation]:
    if "azure" in modules:
        yield modules["azure"].at(
            modules["azure"].tree, "azure is a namespace that others share: remove its __init__.py"
        )


def check_cycles(modules: dict[str, Module]) -> Iterator[Violation]:
    """No two modules need each other to be imported; what a function imports when it is called does not count."""
    edges: dict[str, set[str]] = {}
    for module in modules.values():
        deferred = {
            id(inner)
            for node in ast.walk(module.tree)
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) or _only_for_types(node)
            for inner in ast.walk(node)
        }
        edges[module.name] = {
            taken.target
            for taken in imports_of(module, modules)
            if taken.target in modules and id(taken.node) not in deferred
        }
    done: set[str] = set()

    def follow(name: str, path: tuple[str, ...]) -> Iterator[Violation]:
        if name in path:
            cycle = (*path[path.index(name) :], name)
            module = modules[name]
            yield module.at(module.tree, f"{' -> '.join(cycle)} is a circle; move what they share below both")
            return
        if name in done:
            return
        for other in sorted(edges[name]):
            yield from follow(other, (*path, name))
        done.add(name)

    for name in modules:
        yield from follow(name, ())


def _only_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


Rule = Callable[[dict[str, Module]], Iterator[Violation]]
RULES: list[Rule] = [
    check_rooms,
    check_outside,
    check_determinism,
    check_portability,
    check_shape,
    check_namespace,
    check_cycles,
]


# --- the tests -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_source_obeys(rule: Rule) -> None:
    modules = read_modules(SRC)
    assert len(modules) > 10
    violations = [str(violation) for violation in rule(modules)]
    assert not violations, "\n" + "\n".join(violations)


def test_every_room_of_the_table_is_in_the_source() -> None:
    assert set(ROOMS) == {room_of(name) for name in read_modules(SRC)}


PLANTED = [
    pytest.param(check_rooms, "perdure/core/x.py", "from perdure.store import api", "perdure.store", id="core-store"),
    pytest.param(check_rooms, "perdure/store/x.py", "import perdure.engine.lane", "perdure.engine", id="store-engine"),
    pytest.param(check_rooms, "perdure/engine/x.py", "from perdure.host.app import Host", "perdure.host", id="upward"),
    pytest.param(check_rooms, "perdure/host/http.py", "from perdure import engine", "perdure.engine", id="host-engine"),
    pytest.param(check_rooms, "perdure/host/app.py", "import perdure.cli.start", "perdure.cli", id="assembly-upward"),
    pytest.param(check_rooms, "perdure/cli/x.py", "import perdure.store.sqlite", "perdure.store", id="cli-store"),
    pytest.param(check_rooms, "perdure/annex/x.py", "", "ROOMS", id="unknown-room"),
    pytest.param(
        check_rooms, "azure/durable_functions/x.py", "from perdure.engine import lane", "perdure.engine", id="model"
    ),
    pytest.param(
        check_rooms, "perdure/store/x.py", "def f():\n    from ..engine import lane", "perdure.engine", id="relative"
    ),
    pytest.param(check_outside, "perdure/core/x.py", "import os", "imports os", id="core-os"),
    pytest.param(check_outside, "perdure/core/x.py", "import logging", "imports logging", id="core-logging"),
    pytest.param(check_outside, "perdure/engine/x.py", "from time import monotonic", "imports time", id="engine-time"),
    pytest.param(check_outside, "perdure/engine/x.py", "import asyncio", "imports asyncio", id="engine-asyncio"),
    pytest.param(check_outside, "perdure/engine/x.py", "import concurrent.futures", "concurrent", id="engine-pool"),
    pytest.param(check_outside, "perdure/engine/x.py", "from threading import Lock", "threading", id="engine-lock"),
    pytest.param(check_outside, "perdure/store/x.py", "import os.path", "imports os.path", id="store-os"),
    pytest.param(check_outside, "perdure/store/x.py", "from threading import Thread", "threading.Thread", id="thread"),
    pytest.param(
        check_outside,
        "perdure/store/x.py",
        "import threading\nthreading.Timer(1, print)",
        "threading.Timer",
        id="timer",
    ),
    pytest.param(check_outside, "perdure/store/sqlite/x.py", "import random", "imports random", id="sqlite-random"),
    pytest.param(check_outside, "perdure/store/x.py", "import urllib.request", "urllib.request", id="store-internet"),
    pytest.param(
        check_determinism, "perdure/core/x.py", "import datetime\ndatetime.datetime.now()", "clock", id="clock"
    ),
    pytest.param(
        check_determinism, "perdure/engine/x.py", "from datetime import date\ndate.today()", "clock", id="today"
    ),
    pytest.param(check_determinism, "perdure/store/x.py", "import uuid\nuuid.uuid4()", "uuid.uuid4", id="uuid"),
    pytest.param(check_determinism, "perdure/store/x.py", "from uuid import uuid4", "uuid.uuid4", id="uuid-by-name"),
    pytest.param(check_determinism, "perdure/engine/x.py", "open('x')", "open()", id="open"),
    pytest.param(check_determinism, "perdure/engine/x.py", "hash('x')", "hash()", id="hash"),
    pytest.param(check_portability, "perdure/host/x.py", "import fcntl", "Windows", id="fcntl"),
    pytest.param(check_shape, "perdure/core/x.py", '"""D."""\n' * 701, "701 lines", id="too-long"),
    pytest.param(check_shape, "perdure/core/utils.py", '"""D."""', "subject", id="utils"),
    pytest.param(check_shape, "perdure/core/x.py", "x = 1", "docstring", id="no-docstring"),
    pytest.param(check_shape, "perdure/core/x.py", '"""D."""\n# TO' + "DO later", "finish it", id="unfinished"),
    pytest.param(check_shape, "perdure/core/x.py", '"""D."""\nfrom . import lane', "full name", id="relative-shape"),
    pytest.param(check_namespace, "azure/__init__.py", "", "namespace", id="azure-init"),
    pytest.param(check_cycles, "perdure/engine/lane.py", "import perdure.engine.lane", "circle", id="own-circle"),
]

ALLOWED = [
    pytest.param(check_rooms, "perdure/host/app.py", "from perdure.engine import lane", id="assembly"),
    pytest.param(check_rooms, "perdure/testing/x.py", "from perdure.engine import lane", id="testing"),
    pytest.param(
        check_rooms, "azure/durable_functions/x.py", "import azure.functions\nimport perdure.core", id="model"
    ),
    pytest.param(check_outside, "perdure/store/x.py", "import threading\nthreading.Lock()", id="store-lock"),
    pytest.param(check_outside, "perdure/store/sqlite/x.py", "import os, apsw\nfrom pathlib import Path", id="files"),
    pytest.param(check_outside, "perdure/host/x.py", "import asyncio, time, uvicorn", id="host-is-free"),
    pytest.param(check_determinism, "perdure/engine/x.py", "runtime.now()\nstore.open()", id="port"),
    pytest.param(check_determinism, "perdure/host/x.py", "open('x')", id="host-opens"),
    pytest.param(check_portability, "perdure/host/x.py", "try:\n    import fcntl\nexcept ImportError: ...", id="try"),
    pytest.param(
        check_portability,
        "perdure/host/x.py",
        "import sys\nif sys.platform != 'win32':\n    import fcntl",
        id="platform",
    ),
    pytest.param(
        check_cycles, "perdure/engine/lane.py", "def f():\n    import perdure.engine.lane", id="deferred-circle"
    ),
]


def plant(src: Path, path: str, source: str) -> dict[str, Module]:
    """A small tree with one module in each room, and `source` at `path`."""
    for planted, text in {
        "perdure/store/sqlite/__init__.py": "",
        "perdure/store/api.py": "",
        "perdure/engine/lane.py": "",
        "perdure/cli/start.py": "",
        path: source,
    }.items():
        file = src / planted
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return read_modules(src)


@pytest.mark.parametrize(("rule", "path", "source", "expected"), PLANTED)
def test_a_planted_violation_is_caught(tmp_path: Path, rule: Rule, path: str, source: str, expected: str) -> None:
    modules = plant(tmp_path, path, source)
    messages = [str(violation) for violation in rule(modules) if violation.where.startswith(path)]
    assert any(expected in message for message in messages), messages


@pytest.mark.parametrize(("rule", "path", "source"), ALLOWED)
def test_what_is_allowed_passes(tmp_path: Path, rule: Rule, path: str, source: str) -> None:
    modules = plant(tmp_path, path, source)
    assert [str(violation) for violation in rule(modules) if violation.where.startswith(path)] == []


def test_a_circle_of_two_modules_is_caught(tmp_path: Path) -> None:
    plant(tmp_path, "perdure/engine/a.py", "from perdure.engine import b")
    modules = plant(tmp_path, "perdure/engine/b.py", "import perdure.engine.a")
    assert any("perdure.engine.a -> perdure.engine.b" in str(violation) for violation in check_cycles(modules))


def test_the_standard_library_lists_hold_only_what_it_has() -> None:
    assert sys.stdlib_module_names >= PURE | FILES
