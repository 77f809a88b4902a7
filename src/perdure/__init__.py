"""Perdure runs Durable Functions for Python: a core without I/O, stores, an engine, a host and a command line."""

from __future__ import annotations

__version__ = "0.1.0"
