"""Passwords and their hashes."""

from __future__ import annotations

import bcrypt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeserver.passwords import hash_password, password_matches

ROUNDS = 4


@pytest.mark.parametrize("password", ["", "a", "ü" * 36, "x" * 72, "x" * 73, "a\0b", "🐴" * 500])
def test_a_password_matches_its_hash(password: str) -> None:
    assert password_matches(password, hash_password(password, ROUNDS), ROUNDS)


@given(st.text(max_size=100), st.text(max_size=100))
@settings(max_examples=30, deadline=None)
def test_another_password_does_not(one: str, other: str) -> None:
    assert password_matches(other, hash_password(one, ROUNDS), ROUNDS) == (one == other)


def test_what_stands_after_72_bytes_counts() -> None:
    assert not password_matches("x" * 80 + "b", hash_password("x" * 80 + "a", ROUNDS), ROUNDS)


def test_without_a_hash_nothing_matches() -> None:
    assert not password_matches("", None, ROUNDS)
    assert not password_matches("x", "not a hash", ROUNDS)


def test_plain_bcrypt_hashes_are_understood() -> None:
    foreign = bcrypt.hashpw(b"secret", bcrypt.gensalt(ROUNDS)).decode()
    assert password_matches("secret", foreign, ROUNDS)
