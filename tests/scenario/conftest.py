"""Fixtures of the scenarios."""

from __future__ import annotations

from fix_host import start_host

__all__ = ["start_host"]
