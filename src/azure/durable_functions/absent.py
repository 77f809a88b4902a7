"""What Durable Functions 1.x has and Perdure has not, and what is said to code that uses it.

A name of these tables is absent like any other that nobody has heard of: `hasattr` is false. Only the text of the
AttributeError is different.
"""

from __future__ import annotations

PACKAGE = frozenset(
    {
        "DurableEntityContext",
        "DurableFunctionsCompatibilityWarning",
        "Entity",
        "EntityId",
        "ManagedIdentityTokenSource",
        "Orchestrator",
        "constants",
        "decorators",
        "entity",
        "models",
        "openai_agents",
        "orchestrator",
        "testing",
    }
)
"""Names of `azure.durable_functions`, modules among them."""

CONTEXT = frozenset({"call_entity", "call_http", "function_context", "histories", "signal_entity"})
"""Names of `DurableOrchestrationContext`."""

CLIENT = frozenset({"purge_instance_history_by", "read_entity_state", "restart", "rewind", "signal_entity"})
"""Names of `DurableOrchestrationClient`."""

APP = frozenset({"durable_openai_agent_orchestrator"})
"""Names of `Blueprint` and `DFApp`."""

NO_ENTITIES = "entity_trigger: Perdure does not serve entities yet, see docs/compatibility.md."


def attribute_error(owner: str, name: str, absent: frozenset[str]) -> AttributeError:
    """For a `__getattr__` that does not find `name` in `owner`."""
    text = f"{owner} has no attribute {name!r}"
    if name in absent:
        text += ": Perdure does not have this part of Durable Functions 1.x (yet), see docs/compatibility.md."
    return AttributeError(text)
