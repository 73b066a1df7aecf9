"""The X-Matrix header: what is read, what is written, what is refused."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from homeserver.protocol.signatures import Signer, decode_base64, is_signature
from homeserver.protocol.x_matrix import (
    XMatrix,
    XMatrixError,
    authorization,
    parse_x_matrix,
    request_message,
)

KEY = SigningKey(b"7" * 32)
SIGNER = Signer("a.test:8448", "ed25519:1", KEY)
EXPECTED = XMatrix("a.test:8448", "b.test", "ed25519:1", "c2ln/+==")


@pytest.mark.parametrize(
    "header",
    [
        'X-Matrix origin="a.test:8448",destination="b.test",key="ed25519:1",sig="c2ln/+=="',
        "X-Matrix origin=a.test:8448,destination=b.test,key=ed25519:1,sig=c2ln/+==",
        'x-matrix   ORIGIN="a.test:8448" ,\tDestination=b.test , key="ed25519:1",sig="c2ln/+=="',
        r'X-Matrix sig="c2ln\/+==",key="ed2551\9:1",destination="b.test",origin="a.test:8448"',
        'X-Matrix origin="a.test:8448",new=1,destination="b.test",key="ed25519:1",sig="c2ln/+=="',
    ],
)
def test_every_spelling_of_the_header_is_read(header: str) -> None:
    assert parse_x_matrix(header) == EXPECTED


def test_an_older_server_may_leave_out_the_destination() -> None:
    assert parse_x_matrix("X-Matrix origin=a,key=ed25519:1,sig=x").destination is None


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer abc",
        "X-Matrix",
        'X-Matrix origin="a",key="k"',
        'X-Matrix origin="a" key="k",sig="s"',
        'X-Matrix origin="a,key="k",sig="s"',
        'X-Matrix origin="a b",key="k",sig="s"',
        'X-Matrix origin="a",origin="b",key="k",sig="s"',
        'X-Matrix origin="a",key="k",sig="' + "s" * 5000 + '"',
    ],
)
def test_a_malformed_header_is_refused(header: str) -> None:
    with pytest.raises(XMatrixError):
        parse_x_matrix(header)


def test_our_header_reads_back_and_its_signature_is_right() -> None:
    header = authorization(SIGNER, "PUT", "/_matrix/x?y=1", "b.test", {"z": [1]})
    parsed = parse_x_matrix(header)
    assert (parsed.origin, parsed.destination) == ("a.test:8448", "b.test")
    message = request_message("PUT", "/_matrix/x?y=1", "a.test:8448", "b.test", {"z": [1]})
    assert is_signature(message, decode_base64(parsed.signature), KEY.verify_key)


@given(st.text())
def test_no_text_breaks_the_parser(text: str) -> None:
    with contextlib.suppress(XMatrixError):
        parse_x_matrix("X-Matrix " + text)
