"""The real `Runtime`: the machine's clock, its randomness and its threads."""

from perdure.runtime.interpreter import tune_interpreter
from perdure.runtime.threads import ThreadRuntime

__all__ = ["ThreadRuntime", "tune_interpreter"]
