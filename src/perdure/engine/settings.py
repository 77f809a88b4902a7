"""What can be set about an engine."""

from __future__ import annotations

from msgspec import Struct


class EngineSettings(Struct, frozen=True):
    activity_slots: int = 20
    """Activities under way at once in this host."""
    activity_threads: int = 6
    """Threads for plain `def` activities."""
    turns_in_chunk: int = 64
    """Turns handed to the turn thread at once."""
    turns_in_batch: int = 2000
    """Turns that may wait for one commit; above, no turn is begun."""
    bytes_in_batch: int = 4_000_000
    payload_bytes: int = 32_768
    """An input or an output above this size is kept apart from the row of its instance, as a payload."""
    record_bytes: int = 262_144
    """A history record above this size is. More than for a text, as a record is written once and a row with each turn,
    and as the many small answers of a fan-out that one turn takes are no large value."""
    payload_bytes_waiting: int = 64_000_000
    """Large texts waiting to be written above which no turn is begun."""
    seal_seconds: float = 0.002
    """How long a batch that could be committed waits for turns that are ready to join it."""
    mails_in_turn: int = 1000
    """Messages that one turn of one instance may take."""
    instances_in_memory: int = 20_000
    """Sessions and states kept alive between turns; the least recently used go first."""
    backlog: int = 20_000
    """Instances with a turn due and requests under way above which the doors answer Overloaded."""
    turn_seconds: float = 10.0
    """How long an orchestrator may compute before it is interrupted."""
    abandon_seconds: float = 2.0
    """How long after the interruption its thread is given up."""
    poll_seconds: float = 0.02
    """How often is looked for what other processes wrote; 0 for a store that no other can reach."""
    horizon_seconds: float = 60.0
    """Timers due within this time are held in memory."""
    patience_seconds: float = 5.0
    """How long requests wait for a store that does not answer before they are told so."""
    retry_seconds: float = 0.05
    """First pause after a fault of the environment; doubles up to `retry_limit_seconds`."""
    retry_limit_seconds: float = 5.0
