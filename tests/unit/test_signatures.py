"""Hashing and signing equal `signedjson` and the specification's test vectors."""

from __future__ import annotations

import copy
import json
from typing import Any

import nacl.signing
import pytest
import signedjson.key
import signedjson.sign
from hypothesis import given
from hypothesis import strategies as st

from homeserver.json_types import JsonObject
from homeserver.protocol.room_versions import ROOM_VERSIONS
from homeserver.protocol.signatures import (
    SignatureError,
    content_hash,
    decode_base64,
    decode_verify_key,
    encode_base64,
    encode_url_safe_base64,
    encoded_verify_key,
    generate_signing_key,
    has_valid_content_hash,
    is_signature,
    key_ids_of,
    pdu_message,
    read_signing_key,
    sign_json,
    signature_of,
    signed_message,
    verify_signature,
)
from tests.support.strategies import json_objects

SEED = "YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1"
KEY = nacl.signing.SigningKey(decode_base64(SEED))
KEY_ID = "ed25519:1"
V1 = ROOM_VERSIONS["1"]

MINIMAL_EVENT: JsonObject = {
    "room_id": "!x:domain",
    "sender": "@a:domain",
    "origin": "domain",
    "origin_server_ts": 1000000,
    "signatures": {},
    "hashes": {},
    "type": "X",
    "content": {},
    "prev_events": [],
    "auth_events": [],
    "depth": 3,
    "unsigned": {"age_ts": 1000000},
}
REDACTABLE_EVENT: JsonObject = {
    "content": {"body": "Here is the message content"},
    "event_id": "$0:domain",
    "origin": "domain",
    "origin_server_ts": 1000000,
    "type": "m.room.message",
    "room_id": "!r:domain",
    "sender": "@u:domain",
    "signatures": {},
    "unsigned": {"age_ts": 1000000},
}


@pytest.mark.parametrize(
    ("obj", "signature"),
    [
        (
            {},
            "K8280/U9SSy9IVtjBuVeLr+HpOB4BQFWbg+UZaADMtTdGYI7Geitb76LTrr5QV/7Xg4ahLwYGYZzuHGZKM5ZAQ",
        ),
        (
            {"one": 1, "two": "Two"},
            "KqmLSbO39/Bzb0QIYE82zqLwsA+PDzYIpIRA2sRQ4sL53+sN6/fpNSoqE7BP7vBZhG6kYdD13EIMJpvhJI+6Bw",
        ),
    ],
)
def test_the_json_signing_vectors(obj: JsonObject, signature: str) -> None:
    assert sign_json(obj, "domain", KEY_ID, KEY) == {
        **obj,
        "signatures": {"domain": {KEY_ID: signature}},
    }


@pytest.mark.parametrize(
    ("event", "sha256", "signature"),
    [
        (
            MINIMAL_EVENT,
            "5jM4wQpv6lnBo7CLIghJuHdW+s2CMBJPUOGOC89ncos",
            "KxwGjPSDEtvnFgU00fwFz+l6d2pJM6XBIaMEn81SXPTRl16AqLAYqfIReFGZlHi5KLjAWbOoMszkwsQma+lYAg",
        ),
        (
            REDACTABLE_EVENT,
            "onLKD1bGljeBWQhWZ1kaP9SorVmRQNdN5aM2JYU2n/g",
            "Wm+VzmOUOz08Ds+0NTWb1d4CZrVsJSikkeRxh6aCcUwu6pNC78FunoD7KNWzqFn241eYHYMGCA5McEiVPdhzBA",
        ),
    ],
)
def test_the_event_signing_vectors(event: JsonObject, sha256: str, signature: str) -> None:
    assert content_hash(event, V1) == sha256
    hashed = {**event, "hashes": {"sha256": sha256}}
    assert has_valid_content_hash(hashed, V1)
    assert encode_base64(KEY.sign(pdu_message(hashed, V1)).signature) == signature


@given(json_objects)
def test_signing_equals_signedjson(obj: JsonObject) -> None:
    obj.pop("signatures", None)
    reference_key = signedjson.key.decode_signing_key_base64("ed25519", "1", SEED)
    expected = signedjson.sign.sign_json(copy.deepcopy(obj), "domain", reference_key)
    assert sign_json(obj, "domain", KEY_ID, KEY) == expected


@given(json_objects)
def test_signedjson_accepts_our_signature_and_we_accept_its(obj: JsonObject) -> None:
    obj.pop("signatures", None)
    signed = sign_json(obj, "domain", KEY_ID, KEY)
    public = signedjson.key.decode_verify_key_bytes(KEY_ID, bytes(KEY.verify_key))
    signedjson.sign.verify_signed_json(copy.deepcopy(signed), "domain", public)
    verify_signature(signed, "domain", KEY_ID, KEY.verify_key)


@given(json_objects, st.text(max_size=5), json_objects)
def test_a_signature_breaks_on_any_change(obj: JsonObject, key: str, value: Any) -> None:
    key = "k" + key.encode(errors="ignore").decode()
    signed = sign_json(obj | {"signatures": {}}, "domain", KEY_ID, KEY)
    if signed.get(key) == value:
        value = {"another": value}
    with pytest.raises(SignatureError):
        verify_signature({**signed, key: value}, "domain", KEY_ID, KEY.verify_key)


def test_unsigned_and_further_signatures_are_not_covered() -> None:
    signed = sign_json({"a": 1, "unsigned": {"age": 1}}, "domain", KEY_ID, KEY)
    signed["unsigned"] = {"age": 2}
    twice = sign_json(signed, "other", "ed25519:2", nacl.signing.SigningKey(b"2" * 32))
    assert set(twice["signatures"]) == {"domain", "other"}
    verify_signature(twice, "domain", KEY_ID, KEY.verify_key)
    assert twice["unsigned"] == {"age": 2}


def test_signing_leaves_its_argument_alone() -> None:
    obj = {"a": 1, "signatures": {"domain": {"ed25519:0": "x"}}}
    before = json.dumps(obj)
    assert set(sign_json(obj, "domain", KEY_ID, KEY)["signatures"]["domain"]) == {
        "ed25519:0",
        KEY_ID,
    }
    assert json.dumps(obj) == before


@pytest.mark.parametrize(
    "signatures",
    [
        None,
        [],
        {},
        {"domain": "x"},
        {"domain": {"ed25519:2": "AA"}},
        {"domain": {KEY_ID: 1}},
        {"domain": {KEY_ID: "ä"}},
        {"domain": {KEY_ID: "AA"}},
        {"domain": {KEY_ID: "A" * 86}},
    ],
)
def test_a_malformed_or_wrong_signature_is_an_error(signatures: Any) -> None:
    with pytest.raises(SignatureError):
        verify_signature({"signatures": signatures}, "domain", KEY_ID, KEY.verify_key)


def test_messages_and_signatures_can_be_checked_in_batches() -> None:
    objs = [sign_json({"n": n}, "domain", KEY_ID, KEY) for n in range(3)]
    pairs = [(signed_message(obj), signature_of(obj, "domain", KEY_ID)) for obj in objs]
    assert all(is_signature(*pair, KEY.verify_key) for pair in pairs)
    assert not is_signature(pairs[0][0], pairs[1][1], KEY.verify_key)


def test_the_keys_of_a_server_are_listed_by_algorithm() -> None:
    obj = {"signatures": {"a": {"ed25519:1": "x", "rsa:1": "y"}, "b": 3}}
    assert key_ids_of(obj, "a") == ["ed25519:1"]
    assert key_ids_of(obj, "b") == key_ids_of(obj, "c") == key_ids_of({}, "a") == []


def test_a_key_file_is_read_as_signedjson_reads_it() -> None:
    line = generate_signing_key("a_AbCd", b"s" * 32)
    key_id, key = read_signing_key(line)
    (reference,) = signedjson.key.read_signing_keys([line])
    assert key_id == "ed25519:a_AbCd" == f"{reference.alg}:{reference.version}"
    assert bytes(key) == bytes(reference) == b"s" * 32
    assert bytes(decode_verify_key(encoded_verify_key(key))) == bytes(reference.verify_key)


@pytest.mark.parametrize("text", ["", "ed25519 1", "rsa 1 AAAA", "ed25519 1 AAAA", "ed25519 1 ä"])
def test_a_broken_key_file_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"key|base64"):
        read_signing_key(text)


@given(st.binary())
def test_base64_is_unpadded_and_read_in_every_form(data: bytes) -> None:
    standard, url_safe = encode_base64(data), encode_url_safe_base64(data)
    assert "=" not in standard + url_safe
    assert decode_base64(standard) == decode_base64(url_safe) == data
    assert decode_base64(standard + "=" * (-len(standard) % 4)) == data


@pytest.mark.parametrize(
    ("data", "encoded"), [("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foob", "Zm9vYg")]
)
def test_the_base64_examples(data: str, encoded: str) -> None:
    assert encode_base64(data.encode()) == encoded


@pytest.mark.parametrize(
    "hashes", [None, {}, {"sha256": 1}, {"sha256": "?"}, {"sha256": "AAAA"}, []]
)
def test_a_wrong_content_hash_is_noticed(hashes: Any) -> None:
    assert not has_valid_content_hash({**MINIMAL_EVENT, "hashes": hashes}, V1)
