"""The real `Runtime`: the machine's clock, its randomness and its threads."""

from perdure.runtime.threads import ThreadRuntime

__all__ = ["ThreadRuntime"]
