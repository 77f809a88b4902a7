"""Route templates: what matches, with which values, and which of several wins."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.host.routes import Route, RouteError, RouteTable


def match(template: str, path: str) -> dict[str, str] | None:
    return Route(template).match(path.split("/") if path else [])


@pytest.mark.parametrize(
    ("template", "path", "values"),
    [
        ("orders", "orders", {}),
        ("Orders", "oRDERS", {}),
        ("/orders/", "orders", {}),
        ("", "", {}),
        ("orders/{id}", "orders/A b", {"id": "A b"}),
        ("orders/{id?}", "orders", {}),
        ("orders/{id?}", "orders/7", {"id": "7"}),
        ("orders/{page=1}", "orders", {"page": "1"}),
        ("orders/{page=1}", "orders/2", {"page": "2"}),
        ("orders/{page:int=1}/{size:int?}", "orders", {"page": "1"}),
        ("{*rest}", "a/b/c", {"rest": "a/b/c"}),
        ("files/{*rest}", "files", {}),
        ("files/{**rest}", "files/a/b", {"rest": "a/b"}),
        ("files/{*rest=index.html}", "files", {"rest": "index.html"}),
        ("{name}.{extension}", "a.b.c", {"name": "a.b", "extension": "c"}),
        ("v{version:int}/x", "V2/x", {"version": "2"}),
        ("{a:min(3)}", "3", {"a": "3"}),
        ("{a:max(3)}", "-5", {"a": "-5"}),
        ("{a:range(2,4)}", "4", {"a": "4"}),
        ("{a:length(2)}", "ab", {"a": "ab"}),
        ("{a:length(1,2)}", "ab", {"a": "ab"}),
        ("{a:minlength(2):maxlength(3)}", "abc", {"a": "abc"}),
        ("{a:bool}", "True", {"a": "True"}),
        ("{a:alpha}", "aBc", {"a": "aBc"}),
        ("{a:guid}", "4faf5989-8d4e-56db-b75d-15a1d6c996f1", {"a": "4faf5989-8d4e-56db-b75d-15a1d6c996f1"}),
        ("{a:datetime}", "2024-05-01", {"a": "2024-05-01"}),
        ("{a:double}", "-1.5e3", {"a": "-1.5e3"}),
        (r"{a:regex(^\d{{2}}:x$)}", "12:x", {"a": "12:x"}),
        ("{a:int:range(1,9)}/{b}", "9/y", {"a": "9", "b": "y"}),
    ],
)
def test_a_path_that_fits_gives_its_values(template: str, path: str, values: dict[str, str]) -> None:
    assert match(template, path) == values


@pytest.mark.parametrize(
    ("template", "path"),
    [
        ("orders", "order"),
        ("orders", "orders/1"),
        ("orders/{id}", "orders"),
        ("orders/{id}", "orders/1/2"),
        ("orders/{id:int}", "orders/x"),
        ("orders/{id:int}", "orders/2147483648"),
        ("orders/{id:int?}", "orders/x"),
        ("files/{*rest:int}", "files/a/b"),
        ("{name}.{extension}", "name"),
        ("{a:min(3)}", "2"),
        ("{a:range(2,4)}", "5"),
        ("{a:bool}", "yes"),
        ("{a:alpha}", "a1"),
        ("{a:guid}", "4faf5989"),
        ("{a:length(2)}", "abc"),
        ("{a:datetime}", "tomorrow"),
        (r"{a:regex(^\d+$)}", "x1"),
        ("", "x"),
    ],
)
def test_a_path_that_does_not_fit_is_no_match(template: str, path: str) -> None:
    assert match(template, path) is None


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{id:unknown}", "the route constraint 'unknown' is unknown"),
        ("{id:min(x)}", "wrong arguments"),
        ("{id:range(1)}", "wrong arguments"),
        ("{id:regex([)}", "not a regular expression"),
        ("{id", "brace"),
        ("id}", "brace"),
        ("a//b", "two slashes"),
        ("{a}{b}", "two parameters"),
        ("{a}/{A}", "twice"),
        ("{*rest}/x", "must come last"),
        ("{a?}/x", "may be left out"),
        ("x{a?}", "must stand alone"),
        ("{}", "not a route parameter"),
    ],
)
def test_a_template_that_cannot_be_served_is_refused_with_the_reason(template: str, text: str) -> None:
    with pytest.raises(RouteError, match=text):
        Route(template)


@pytest.mark.parametrize(
    ("template", "reserved"),
    [
        ("admin", True),
        ("Runtime/x", True),
        ("api/admin", False),
        ("administrator", False),
        ("{*rest}", False),
        ("", False),
    ],
)
def test_paths_of_the_host_are_reserved(template: str, reserved: bool) -> None:
    assert Route(template).reserved is reserved


ORDERED = ["orders/list", "orders/{id:int}", "orders/{id}", "orders/{id}/{*rest:int}", "orders/{*rest}", "{*rest}"]


@given(st.permutations(ORDERED))
def test_the_most_specific_template_wins_in_whatever_order_they_come(templates: list[str]) -> None:
    table: RouteTable[str] = RouteTable()
    for template in templates:
        table.add(Route(template), template)
    best = {
        "orders/list": "orders/list",
        "orders/7": "orders/{id:int}",
        "orders/x": "orders/{id}",
        "orders/x/7": "orders/{id}/{*rest:int}",
        "orders/x/y": "orders/{*rest}",
        "other": "{*rest}",
    }
    for path, template in best.items():
        assert table.find(path.split("/"))[0][0] == template


def test_of_equal_templates_the_first_registered_comes_first() -> None:
    table: RouteTable[int] = RouteTable()
    for number in (1, 2):
        table.add(Route("x/{a}"), number)
    assert [target for target, _ in table.find(["x", "y"])] == [1, 2]
