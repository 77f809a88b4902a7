"""The loops around the core: who runs when, what becomes durable together, what follows a commit or a fault."""

from perdure.engine.engine import Engine
from perdure.engine.settings import EngineSettings

__all__ = ["Engine", "EngineSettings"]
