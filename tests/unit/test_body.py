"""A request's JSON body: what is refused, and with which error."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from homeserver.errors import BadJson, MatrixError, MissingParam, NotJson
from homeserver.http.body import JsonBody
from homeserver.json_types import JsonObject


class Named(msgspec.Struct):
    name: str
    tags: dict[str, Any] = {}


anything = JsonBody(JsonObject, 10)
named = JsonBody(Named, 10)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", NotJson),
        (b"{", NotJson),
        (b"{} x", NotJson),
        (b'{"a": NaN}', NotJson),
        (b'{"a": "\xff"}', NotJson),
        (rb'{"a": "\ud800"}', NotJson),
        (rb'{"a": "\udc00x"}', NotJson),
        (rb'{"\ud800": 1}', NotJson),
        (b"[]", BadJson),
        (b'"text"', BadJson),
        (b"null", BadJson),
        (b'{"a":' + b"[" * 10 + b"]" * 10 + b"}", BadJson),
        (b'{"a":' + b"[" * 900 + b"]" * 900 + b"}", BadJson),
        (b'{"a":' + b'{"b":' * 90_000 + b"1" + b"}" * 90_001, BadJson),
    ],
)
def test_what_is_no_json_object_is_refused(body: bytes, error: type[MatrixError]) -> None:
    with pytest.raises(error):
        anything.decode(body)


def test_as_deep_as_allowed_is_served() -> None:
    assert anything.decode(b'{"a":' + b"[" * 9 + b"]" * 9 + b"}")


def test_many_shallow_objects_are_served() -> None:
    assert len(anything.decode(b'{"a":[' + b"{}," * 500 + b"{}]}")["a"]) == 501


def test_a_wrong_type_names_the_field() -> None:
    with pytest.raises(BadJson, match=r"Expected `str`, got `int` - at `\$\.name`"):
        named.decode(b'{"name": 1}')


def test_a_missing_field_is_named() -> None:
    with pytest.raises(MissingParam, match="name"):
        named.decode(b'{"tags": {}}')


def test_unknown_keys_are_ignored() -> None:
    assert named.decode(b'{"name": "x", "more": [1]}') == Named(name="x")


def test_deep_nesting_in_a_struct_is_refused() -> None:
    with pytest.raises(BadJson):
        named.decode(b'{"name": "x", "tags": {"a":' + b"[" * 20 + b"]" * 20 + b"}}")
