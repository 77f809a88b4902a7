"""The texts in which Durable Functions speaks of failures, rendered from the structured `Failure`.

Users parse these texts, so they are kept to the letter, the two spaces after an activity's colon included. They are
made at the edge and never stored.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from perdure.core.events import Failure


def clean(text: str) -> str:
    """`text` as an exact str, with escapes for lone surrogates, which neither JSON in UTF-8 nor a store can hold.

    File names that are not UTF-8 bring surrogates into the messages of exceptions, markup libraries subclasses of str.
    """
    exact = str.__str__(text)
    return exact if exact.isascii() else exact.encode("utf-8", "backslashreplace").decode("utf-8")


def text_of(error: BaseException) -> str:
    """`str(error)`, whatever the class of `error` does about it."""
    try:
        return clean(str(error))
    except BaseException:  # code of the user, on a thread that must live
        return f"<a {type(error).__name__} whose text cannot be made>"


def shortened(text: str, most: int = 8000) -> str:
    """`text` for the log: of what is longer, the beginning and the end."""
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]} … {len(text) - 2 * half:,} characters … {text[-half:]}"


def message_of(failure: Failure) -> str:
    if failure.message is not None:
        return failure.message
    return exception_text(failure.cause) if failure.cause is not None else ""


def reason(failure: Failure) -> str:
    """The first part of the text: what `TaskFailed.Reason` holds, and the output of a failed orchestration."""
    match failure.kind:
        case "activity":
            return f"Activity function '{failure.function}' failed:  {failure.type}: {message_of(failure)}"
        case "orchestrator":
            return f"Orchestrator function '{failure.function}' failed: {message_of(failure)}"
        case "":
            return message_of(failure)


def details(failure: Failure) -> str | None:
    """What `TaskFailed.Details` holds: one line of JSON in the shape of a serialised .NET exception."""
    if failure.kind != "activity":
        return None
    text = f"{failure.type}: {message_of(failure)}"
    stack = failure.traceback or ""
    inner = {
        "$type": "Microsoft.Azure.WebJobs.Script.Workers.Rpc.RpcException, Microsoft.Azure.WebJobs.Script",
        "IsUserException": False,
        "RemoteStackTrace": stack,
        "RemoteMessage": text,
        "RemoteTypeName": None,
        "Message": f"Result: Failure\nType: \nException: {text}\nStack: {stack}",
        "Data": {"$type": "System.Collections.ListDictionaryInternal, System.Private.CoreLib"},
        "InnerException": None,
        "HelpLink": None,
        "Source": None,
        "HResult": -2146233088,
    }
    return json.dumps(
        {
            "$type": "System.Exception, System.Private.CoreLib",
            "ClassName": "System.Exception",
            "Message": f" {text}",
            "Data": None,
            "InnerException": inner,
            "HelpURL": None,
            "StackTraceString": None,
            "RemoteStackTraceString": None,
            "RemoteStackIndex": 0,
            "ExceptionMethod": None,
            "HResult": -2146233088,
            "Source": None,
            "WatsonBuckets": None,
        },
        separators=(",", ":"),
    )


def exception_text(failure: Failure) -> str:
    """`str()` of the exception that the orchestrator catches."""
    if failure.kind == "":
        return message_of(failure)
    return f"{reason(failure)} \n {details(failure)}"


def unknown_function(name: str, kind: str, known: Iterable[str]) -> str:
    """The text for a function that nobody serves; `kind` is "activity", "orchestrator" or "entity"."""
    names = ", ".join(f"'{n}'" for n in sorted(known))
    article = "a" if kind[0] not in "aeiou" else "an"
    known_text = (
        f"The following are the known {kind} functions: {names}."
        if names
        else f"No {kind} functions are currently registered!"
    )
    return (
        f"The function '{name}' doesn't exist, is disabled, or is not {article} {kind} function. "
        f"Additional info: {known_text}"
    )


def own_failure(type: str, message: str) -> Failure:
    """A failure that is the runtime's and not a function's."""
    return Failure(type=type, message=message)
