"""Settings of the whole interpreter that a host wants. Whoever embeds the engine may leave them as they are."""

from __future__ import annotations

import gc
import sys

_SWITCH_SECONDS = 0.0005
_YOUNG_OBJECTS = 20_000
_GENERATIONS = 50


def tune_interpreter() -> None:
    """Trade a little memory and a little throughput of single threads for a host that is fast and answers quickly.

    Home, turn and commit thread hand over to each other all the time, and one that computes keeps the others waiting
    for the interpreter's switch interval; with its default of 5 ms latency is many times higher. The garbage collector
    looks at all young objects each time 700 more exist than died, which with some hundred instances under way costs
    more than a third of the CPU; what it finds are next to no cycles.
    """
    sys.setswitchinterval(min(sys.getswitchinterval(), _SWITCH_SECONDS))
    gc.set_threshold(max(gc.get_threshold()[0], _YOUNG_OBJECTS), _GENERATIONS, _GENERATIONS)
