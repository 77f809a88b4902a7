"""Names of Durable Functions 1.x that are not there."""

from __future__ import annotations

import importlib.util
import json
import re
from typing import Any

import azure.durable_functions as df
import pytest
from azure.durable_functions import absent
from azure.durable_functions.context import DurableOrchestrationContext
from azure.durable_functions.replay import OrchestrationSession

OWNERS: dict[str, tuple[Any, frozenset[str]]] = {
    "package": (df, absent.PACKAGE),
    "context": (
        DurableOrchestrationContext(OrchestrationSession("orch", lambda context: None, "i1"), "i1"),
        absent.CONTEXT,
    ),
    "client": (
        df.DurableOrchestrationClient(json.dumps({"managementUrls": {}, "taskHubName": "hub"})),
        absent.CLIENT,
    ),
    "DFApp": (df.DFApp(), absent.APP),
    "Blueprint": (df.Blueprint(), absent.APP),
}
ABSENT = [
    pytest.param(owner, name, id=f"{key}.{name}") for key, (owner, names) in OWNERS.items() for name in sorted(names)
]


@pytest.mark.parametrize(("owner", "name"), ABSENT)
def test_an_absent_name_is_absent_and_says_where_to_read_about_it(owner: Any, name: str) -> None:
    assert not hasattr(owner, name)
    with pytest.raises(AttributeError, match=re.escape(repr(name)) + r".*Perdure .* see docs/compatibility\.md"):
        getattr(owner, name)


@pytest.mark.parametrize("name", sorted(absent.PACKAGE))
def test_an_absent_name_is_no_module_either(name: str) -> None:
    assert importlib.util.find_spec(f"azure.durable_functions.{name}") is None


@pytest.mark.parametrize("owner", [owner for owner, _ in OWNERS.values()], ids=list(OWNERS))
def test_a_name_that_nobody_has_is_reported_as_ever(owner: Any) -> None:
    with pytest.raises(AttributeError, match=r"has no attribute 'nonsense'$"):
        owner.nonsense  # noqa: B018
