"""Route templates of HTTP functions: `orders/{id:int}/{*rest}`.

A template is a list of segments between slashes. A segment is literal text, a parameter, or a mixture
(`{name}.{extension}`). `{id?}` and `{id=5}` may be left out of the path where nothing but such parameters follows;
`{*rest}`, last of all, takes whatever is left, slashes included. A constraint (`{id:int:min(1)}`) is part of the
match: a value that breaks it is no match. Literal text is compared without regard to case.

Of several templates that match, the first segment in which they differ decides: literal text before a parameter with
a constraint, before one without, before a rest; then the shorter one, then the order of registration.
"""

from __future__ import annotations

import itertools
import re
import uuid
from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, TypeVar, Union

from perdure.host.dates import parse_date

T = TypeVar("T")
Check = Callable[[str], bool]

RESERVED_PREFIXES = frozenset({"admin", "runtime"})
"""First segments that belong to the host."""


class RouteError(ValueError):
    """A template that cannot be served; the text says why."""


class Parameter(NamedTuple):
    name: str
    checks: tuple[Check, ...] = ()
    optional: bool = False
    default: str | None = None
    rest: bool = False

    def accepts(self, value: str) -> bool:
        return all(check(value) for check in self.checks)


class Segment(NamedTuple):
    parts: tuple[Union[str, Parameter], ...]
    pattern: re.Pattern[str]

    @property
    def sole(self) -> Parameter | None:
        """The parameter that is the whole segment."""
        part = self.parts[0]
        return part if len(self.parts) == 1 and isinstance(part, Parameter) else None

    @property
    def rank(self) -> int:
        parameters = [part for part in self.parts if isinstance(part, Parameter)]
        if not parameters:
            return 1
        constrained = any(parameter.checks for parameter in parameters)
        if parameters[-1].rest:
            return 4 if constrained else 5
        return 2 if constrained or len(self.parts) > 1 else 3


class Route:
    """A template, ready to match. Raises RouteError."""

    def __init__(self, template: str) -> None:
        self.template = template.strip("/")
        self._segments = [_segment(text) for text in _split(self.template)]
        _check_order(self.template, self._segments)

    @property
    def reserved(self) -> bool:
        """Its first segment belongs to the host."""
        first = self._segments[0].parts[0] if self._segments else ""
        return isinstance(first, str) and first.lower() in RESERVED_PREFIXES

    @property
    def precedence(self) -> tuple[int, ...]:
        return tuple(segment.rank for segment in self._segments)

    def match(self, path: Sequence[str]) -> dict[str, str] | None:
        """The values of the parameters for the decoded segments of a path, or None. Left out and without a default:
        not among them."""
        values: dict[str, str] = {}
        for index, segment in enumerate(self._segments):
            sole = segment.sole
            if sole is not None and sole.rest:
                rest = "/".join(path[index:])
                return _bind(values, sole, rest or None)
            if index < len(path):
                if not _match_segment(values, segment, path[index]):
                    return None
            elif sole is None or _bind(values, sole, None) is None:
                return None
        return values if len(path) <= len(self._segments) else None


def _match_segment(values: dict[str, str], segment: Segment, text: str) -> bool:
    found = segment.pattern.fullmatch(text)
    if found is None:
        return False
    parameters = [part for part in segment.parts if isinstance(part, Parameter)]
    for parameter, value in zip(parameters, found.groups(), strict=True):
        if not parameter.accepts(value):
            return False
        values[parameter.name] = value
    return True


def _bind(values: dict[str, str], parameter: Parameter, value: str | None) -> dict[str, str] | None:
    """Put the value of a parameter that may be left out; None if it may not, or breaks a constraint."""
    if value is not None:
        if not parameter.accepts(value):
            return None
        values[parameter.name] = value
    elif parameter.default is not None:
        values[parameter.name] = parameter.default
    elif not (parameter.optional or parameter.rest):
        return None
    return values


class RouteTable(Generic[T]):
    """Targets by route, in order of precedence."""

    def __init__(self) -> None:
        self._routes: list[tuple[Route, T]] = []

    def add(self, route: Route, target: T) -> None:
        self._routes.append((route, target))
        self._routes.sort(key=lambda entry: entry[0].precedence)

    def find(self, path: Sequence[str]) -> list[tuple[T, dict[str, str]]]:
        """All targets whose route matches, the best one first, with the values of its parameters."""
        matches = ((target, route.match(path)) for route, target in self._routes)
        return [(target, values) for target, values in matches if values is not None]


# --- reading a template ----------------------------------------------------------------------------------------------


def _split(template: str) -> list[str]:
    """Cut at the slashes that are not inside braces."""
    segments: list[str] = []
    depth = start = 0
    for position, char in enumerate(template):
        if char == "{":
            depth += 1
        elif char == "}":
            depth -= 1
        elif char == "/" and depth == 0:
            segments.append(template[start:position])
            start = position + 1
    if depth != 0:
        raise RouteError(f"the route {template!r} has an opening brace without a closing one, or the other way round")
    segments.append(template[start:])
    if template and "" in segments:
        raise RouteError(f"the route {template!r} has two slashes with nothing between them")
    return segments if template else []


def _segment(text: str) -> Segment:
    parts: list[Union[str, Parameter]] = []
    position = 0
    while position < len(text):
        opening = text.find("{", position)
        if opening < 0:
            opening = len(text)
        if opening > position:
            parts.append(text[position:opening])
            position = opening
        else:
            closing = _closing_brace(text, opening)
            if parts and isinstance(parts[-1], Parameter):
                raise RouteError(f"the route segment {text!r} has two parameters with nothing between them")
            parts.append(_parameter(text[opening + 1 : closing]))
            position = closing + 1
    if len(parts) > 1 and any(isinstance(part, Parameter) and (part.rest or part.optional) for part in parts):
        raise RouteError(f"in the route segment {text!r}, a parameter that may be left out must stand alone")
    pattern = "".join(re.escape(part) if isinstance(part, str) else "(.+)" for part in parts)
    return Segment(tuple(parts), re.compile(pattern, re.IGNORECASE | re.DOTALL))


def _closing_brace(text: str, opening: int) -> int:
    """Braces inside a constraint (of a regular expression) come in pairs."""
    depth = 0
    for position in range(opening, len(text)):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if depth == 0:
            return position
    raise RouteError(f"the route segment {text!r} has an opening brace without a closing one")


_PARAMETER = re.compile(r"(?P<rest>\*{0,2})(?P<name>[^\s/{}*?:=]+)(?P<tail>.*)", re.DOTALL)


def _parameter(text: str) -> Parameter:
    found = _PARAMETER.fullmatch(text.strip())
    if found is None:
        raise RouteError(f"{{{text}}} is not a route parameter")
    constraints, ending = _constraints(found["tail"])
    optional = ending == "?"
    default = ending[1:] if ending.startswith("=") else None
    if ending and not optional and default is None:
        raise RouteError(f"{{{text}}} is not a route parameter: {ending!r} is not understood")
    checks = tuple(_check(constraint) for constraint in constraints)
    return Parameter(found["name"], checks, optional, default, bool(found["rest"]))


def _constraints(text: str) -> tuple[list[str], str]:
    """Split ":int:min(1)=5" into its constraints and what follows them. Parentheses may hold any character."""
    constraints: list[str] = []
    while text.startswith(":"):
        depth = 0
        end = len(text)
        for position in range(1, len(text)):
            char = text[position]
            depth += {"(": 1, ")": -1}.get(char, 0)
            if depth == 0 and char in ":?=":
                end = position
                break
        constraints.append(text[1:end])
        text = text[end:]
    return constraints, text


def _check_order(template: str, segments: list[Segment]) -> None:
    names = [part.name.lower() for segment in segments for part in segment.parts if isinstance(part, Parameter)]
    for name in names:
        if names.count(name) > 1:
            raise RouteError(f"the route {template!r} has the parameter {name!r} twice")
    for segment in segments[:-1]:
        if segment.sole is not None and segment.sole.rest:
            raise RouteError(f"in the route {template!r}, {{*{segment.sole.name}}} must come last")
    for segment, following in itertools.pairwise(segments):
        if segment.sole is not None and segment.sole.optional:
            after = following.sole
            if after is None or not (after.optional or after.default is not None or after.rest):
                raise RouteError(
                    f"in the route {template!r}, only parameters that may be left out too can follow "
                    f"{{{segment.sole.name}?}}"
                )


# --- constraints ------------------------------------------------------------------------------------------------------


def _check(constraint: str) -> Check:
    found = re.fullmatch(r"(?P<name>\w+)(?:\((?P<arguments>.*)\))?", constraint.strip(), re.DOTALL)
    if found is None:
        raise RouteError(f"the route constraint {constraint!r} is not understood")
    name = found["name"].lower()
    arguments = found["arguments"]
    if arguments is None and name in _PLAIN_CHECKS:
        return _PLAIN_CHECKS[name]
    if arguments is not None and name == "regex":
        return _regex_check(arguments)
    if arguments is not None and name in _NUMBER_CHECKS:
        try:
            return _NUMBER_CHECKS[name](*(int(argument) for argument in arguments.split(",")))
        except (TypeError, ValueError):
            raise RouteError(f"the route constraint {constraint!r} has the wrong arguments") from None
    known = ", ".join(sorted({*_PLAIN_CHECKS, *(f"{name}()" for name in (*_NUMBER_CHECKS, "regex"))}))
    raise RouteError(f"the route constraint {constraint!r} is unknown; there are {known}")


def _parses(parse: Callable[[str], object]) -> Check:
    def check(value: str) -> bool:
        try:
            parse(value)
        except ValueError:
            return False
        return True

    return check


def _integer(bits: int) -> Check:
    """A signed whole number of so many bits."""

    def check(value: str) -> bool:
        return re.fullmatch(r"[+-]?[0-9]+", value) is not None and -(1 << bits - 1) <= int(value) < 1 << bits - 1

    return check


_is_long = _integer(64)


def _min(least: int) -> Check:
    return lambda value: _is_long(value) and least <= int(value)


def _max(most: int) -> Check:
    return lambda value: _is_long(value) and int(value) <= most


def _range(least: int, most: int) -> Check:
    return lambda value: _is_long(value) and least <= int(value) <= most


def _length(least: int, most: int | None = None) -> Check:
    return lambda value: least <= len(value) <= (least if most is None else most)


def _min_length(least: int) -> Check:
    return lambda value: least <= len(value)


def _max_length(most: int) -> Check:
    return lambda value: len(value) <= most


def _regex_check(pattern: str) -> Check:
    try:
        # Braces of the expression are doubled in a template, as single ones delimit the parameter.
        compiled = re.compile(pattern.replace("{{", "{").replace("}}", "}"), re.IGNORECASE)
    except re.error as error:
        raise RouteError(f"the route constraint regex({pattern}) is not a regular expression: {error}") from None
    return lambda value: compiled.search(value) is not None


_PLAIN_CHECKS: dict[str, Check] = {
    "int": _integer(32),
    "long": _is_long,
    "bool": lambda value: value.lower() in ("true", "false"),
    "guid": _parses(uuid.UUID),
    "alpha": lambda value: re.fullmatch(r"[A-Za-z]*", value) is not None,
    "decimal": _parses(float),
    "double": _parses(float),
    "float": _parses(float),
    "datetime": lambda value: parse_date(value) is not None,
    "required": lambda value: value != "",
}

_NUMBER_CHECKS: dict[str, Callable[..., Check]] = {
    "min": _min,
    "max": _max,
    "range": _range,
    "length": _length,
    "minlength": _min_length,
    "maxlength": _max_length,
}
