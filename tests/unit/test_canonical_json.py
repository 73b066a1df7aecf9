"""Canonical JSON equals the reference implementation and the specification's examples."""

from __future__ import annotations

import json
from typing import Any

import canonicaljson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeserver.protocol.canonical_json import (
    MAX_NESTING,
    CanonicalJsonError,
    encode,
    encode_lenient,
    encode_valid,
    validate,
)
from tests.support.strategies import json_values, loose_json_values

# The section "Examples" of the appendices, without the last one, `{"a": -0, "b": 1e10}`, which is
# about reading JSON numbers: Python reads a float there, and floats are refused.
EXAMPLES = [
    ("{}", "{}"),
    ('{"one": 1, "two": "Two"}', '{"one":1,"two":"Two"}'),
    ('{"b": "2", "a": "1"}', '{"a":"1","b":"2"}'),
    ('{"b":"2","a":"1"}', '{"a":"1","b":"2"}'),
    (
        """{"auth": {"success": true, "mxid": "@john.doe:example.com", "profile": {
            "display_name": "John Doe", "three_pids": [
            {"medium": "email", "address": "john.doe@example.org"},
            {"medium": "msisdn", "address": "123456789"}]}}}""",
        '{"auth":{"mxid":"@john.doe:example.com","profile":{"display_name":"John Doe",'
        '"three_pids":[{"address":"john.doe@example.org","medium":"email"},'
        '{"address":"123456789","medium":"msisdn"}]},"success":true}}',
    ),
    ('{"a": "日本語"}', '{"a":"日本語"}'),
    ('{"本": 2, "日": 1}', '{"日":1,"本":2}'),
    ('{"a": "\\u65E5"}', '{"a":"日"}'),
    ('{"a": null}', '{"a":null}'),
    ('{"a": -0}', '{"a":0}'),
]


@pytest.mark.parametrize(("given_json", "canonical"), EXAMPLES)
def test_the_examples_of_the_specification(given_json: str, canonical: str) -> None:
    assert encode(json.loads(given_json)) == canonical.encode()


@given(json_values)
def test_it_equals_canonicaljson(value: Any) -> None:
    assert encode(value) == encode_valid(value) == canonicaljson.encode_canonical_json(value)


@given(json_values)
def test_it_can_be_read_back(value: Any) -> None:
    assert json.loads(encode(value)) == value


@given(loose_json_values)
def test_the_lenient_form_equals_canonicaljson(value: Any) -> None:
    assert encode_lenient(value) == canonicaljson.encode_canonical_json(value)


@given(st.text())
def test_a_string_is_encoded_or_refused_for_its_surrogates(value: str) -> None:
    if any("\ud800" <= char <= "\udfff" for char in value):
        for encoder in (encode, encode_valid, encode_lenient):
            with pytest.raises(CanonicalJsonError):
                encoder([{value: value}])
    else:
        assert encode(value) == canonicaljson.encode_canonical_json(value)


@pytest.mark.parametrize(
    "value",
    [
        1.0,
        1e10,
        float("nan"),
        float("inf"),
        2**53,
        -(2**53),
        10**5000,
        "\ud800",
        {"\udfff": 1},
        {1: 2},
        b"bytes",
        {"a": [{"b": 0.5}]},
    ],
    ids=lambda value: str(type(value)),
)
def test_what_has_no_canonical_form_is_refused(value: Any) -> None:
    with pytest.raises(CanonicalJsonError):
        encode(value)


def test_the_largest_integers_are_allowed() -> None:
    assert encode([2**53 - 1, -(2**53) + 1]) == b"[9007199254740991,-9007199254740991]"


def test_nesting_is_bounded() -> None:
    value: Any = []
    for _ in range(MAX_NESTING - 1):
        value = [value]
    validate(value)
    for refuse in (validate, encode, encode_lenient):
        with pytest.raises(CanonicalJsonError):
            refuse([[value]])


def test_a_lenient_encoding_refuses_what_is_no_number() -> None:
    for value in (float("nan"), float("inf"), b"bytes"):
        with pytest.raises(CanonicalJsonError):
            encode_lenient([value])
