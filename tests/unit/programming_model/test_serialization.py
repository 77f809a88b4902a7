"""User values to text and back."""

from __future__ import annotations

import json
import math
import sys
from typing import Any, Optional

import pytest
from azure.durable_functions.serialization import df_dumps, df_loads, json_loads, return_type
from hypothesis import given
from hypothesis import strategies as st


class Point:
    def __init__(self, x: Any) -> None:
        self.x = x

    def to_json(self) -> Any:
        return self.x

    @classmethod
    def from_json(cls, data: Any) -> Point:
        return cls(data)


class Static:
    @staticmethod
    def to_json(value: Static) -> str:
        return "static"


HERE = __name__
ENVELOPE = f'{{"__class__": "Point", "__module__": "{HERE}", "__data__": 3}}'

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(json_values)
def test_json_values_come_back_as_they_were(value: Any) -> None:
    text = df_dumps(value)
    assert text == json.dumps(value)
    assert text.isascii()
    assert df_loads(text) == value
    assert json_loads(text) == json.loads(text)


@pytest.mark.parametrize("value", [float("inf"), -float("inf"), 2**70, "\ud800", "a\0b", 1e400])
def test_values_beyond_json_come_back_too(value: Any) -> None:
    assert df_loads(df_dumps([value])) == [value]


def test_nan_comes_back() -> None:
    assert math.isnan(df_loads(df_dumps(float("nan"))))


def test_tuples_become_lists_and_keys_become_text() -> None:
    assert df_loads(df_dumps({1: (2, 3)})) == {"1": [2, 3]}


def test_an_object_travels_in_an_envelope() -> None:
    assert df_dumps(Point(3)) == ENVELOPE
    assert df_dumps(Static()) == f'{{"__class__": "Static", "__module__": "{HERE}", "__data__": "static"}}'


def test_nested_objects_come_back() -> None:
    found = df_loads(df_dumps({"a": [Point({"b": Point(1)})]}))

    assert found["a"][0].x["b"].x == 1


@pytest.mark.parametrize("value", [b"x", {1}, object()])
def test_what_has_no_to_json_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="does not expose a `to_json` function"):
        df_dumps(value)


def test_text_that_is_not_json_is_refused() -> None:
    with pytest.raises(json.JSONDecodeError):
        df_loads("not json")


def test_a_class_is_never_imported(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "waiting_to_be_imported.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(ValueError, match=r"module 'waiting_to_be_imported' is not loaded in sys\.modules"):
        df_loads('{"__class__": "C", "__module__": "waiting_to_be_imported", "__data__": 1}')
    assert "waiting_to_be_imported" not in sys.modules


def test_a_class_that_is_not_there_or_cannot_be_read_is_refused() -> None:
    with pytest.raises(AttributeError, match=f"class 'Nothing' not found in module '{HERE}'"):
        df_loads(ENVELOPE.replace("Point", "Nothing"))
    with pytest.raises(TypeError, match="does not expose a `from_json` function"):
        df_loads(ENVELOPE.replace("Point", "Static"))


def test_an_expected_type_does_not_matter_by_default() -> None:
    assert df_loads("3", str) == 3
    assert isinstance(df_loads(ENVELOPE, int), Point)


class TestStrictMode:
    @pytest.fixture(autouse=True, params=["1", "true", "YES"])
    def strict(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AZURE_FUNCTIONS_DURABLE_STRICT_TYPING", request.param)

    def test_an_envelope_needs_its_class_to_be_expected(self) -> None:
        assert df_loads(ENVELOPE, Point).x == 3
        assert df_loads(ENVELOPE, Optional[Point]).x == 3  # noqa: UP045
        assert df_loads(ENVELOPE, Point | None).x == 3
        with pytest.raises(TypeError, match="strict mode requires expected_type"):
            df_loads(ENVELOPE)
        with pytest.raises(TypeError, match=f"payload declares class {HERE}.Point but expected builtins.int"):
            df_loads(ENVELOPE, int)

    def test_an_envelope_inside_a_value_stays_as_it_is(self) -> None:
        assert df_loads(f"[{ENVELOPE}]") == [json.loads(ENVELOPE)]

    @pytest.mark.parametrize(
        ("text", "expected"),
        [("3", int), ("3", float), ("[3]", list[int]), ("null", int | None), ("3", int | str), ("{}", dict)],
    )
    def test_a_value_of_the_expected_type_is_taken(self, text: str, expected: Any) -> None:
        assert df_loads(text, expected) == json.loads(text)

    @pytest.mark.parametrize(("text", "expected"), [("3", str), ("null", int), ('{"a": 1}', Point), ("3", list[int])])
    def test_a_value_of_another_type_is_refused(self, text: str, expected: Any) -> None:
        with pytest.raises(TypeError, match="is not compatible with expected type"):
            df_loads(text, expected)


def test_a_return_annotation_is_found_or_left_alone() -> None:
    def annotated() -> Point: ...

    def not_evaluable() -> Missing: ...  # noqa: F821

    assert return_type(annotated) is Point
    assert return_type(not_evaluable) is None
    assert return_type(lambda: None) is None
