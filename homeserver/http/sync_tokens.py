"""The sync tokens that clients give back."""

from __future__ import annotations

from homeserver.errors import InvalidParam
from homeserver.stream.sync_request import Token, parse_token


def sync_token(text: str) -> Token:
    """What a `next_batch` of /sync says. Raises InvalidParam for anything else."""
    token = parse_token(text)
    if token is None:
        raise InvalidParam(f"{text[:50]!r} is not a token that /sync gave you as `next_batch`")
    return token
