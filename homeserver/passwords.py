"""Passwords, kept as bcrypt hashes.

Both functions take a good part of a second: run them in a thread (bcrypt releases the GIL).
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache

import bcrypt

_BCRYPT_BYTES = 72


def hash_password(password: str, rounds: int) -> str:
    """The salted bcrypt hash of a password of any length."""
    return bcrypt.hashpw(_bcrypt_input(password), bcrypt.gensalt(rounds)).decode()


def password_matches(password: str, password_hash: str | None, rounds: int) -> bool:
    """Whether it is the password. Without a hash it takes as long and says no.

    `rounds` only says how long that is.
    """
    known = password_hash if password_hash is not None else _nobodys_hash(rounds)
    try:
        matches = bcrypt.checkpw(_bcrypt_input(password), known.encode())
    except ValueError:
        return False
    return matches and password_hash is not None


def _bcrypt_input(password: str) -> bytes:
    """bcrypt takes 72 bytes without NUL: what doesn't fit goes in as its SHA-256 in base64."""
    encoded = password.encode("utf-8", "surrogatepass")
    if len(encoded) <= _BCRYPT_BYTES and b"\0" not in encoded:
        return encoded
    return base64.b64encode(hashlib.sha256(encoded).digest())


@cache
def _nobodys_hash(rounds: int) -> str:
    return hash_password("", rounds)
