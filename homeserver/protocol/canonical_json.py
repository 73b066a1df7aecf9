"""Canonical JSON: the one byte string of a JSON value that is hashed and signed.

appendices#canonical-json. Keys sorted by code point, no white space, UTF-8; numbers are integers
of at most 2^53 - 1. Room versions 1 to 5 also hold values outside of these bounds:
`encode_lenient`.
"""

from __future__ import annotations

from typing import Any

import canonicaljson
import msgspec

from homeserver.protocol.room_versions import RoomVersion

MAX_INTEGER = 2**53 - 1
MAX_NESTING = 1000
"""Levels of arrays and objects; deeper JSON is refused, since many parsers fail on it. The
specification has no limit: where Synapse takes an event, we must be able to."""

_encoder = msgspec.json.Encoder(order="sorted")


class CanonicalJsonError(ValueError):
    """The value has no canonical form; the text says why."""


def encode(value: Any) -> bytes:
    """The canonical bytes of any JSON value.

    Raises CanonicalJsonError on a float, an integer beyond 2^53 - 1, a lone surrogate, a key that
    is no string, too deep nesting, anything that isn't JSON.
    """
    validate(value)
    return encode_valid(value)


def encode_valid(value: Any) -> bytes:
    """The canonical bytes of a value that passed `validate` before (faster)."""
    try:
        return _encoder.encode(value)
    except UnicodeEncodeError:
        raise CanonicalJsonError("a string holds a lone surrogate") from None
    except (TypeError, RecursionError) as error:
        raise CanonicalJsonError(str(error)) from None


def encode_lenient(value: Any) -> bytes:
    """The bytes for room versions 1 to 5: floats and larger integers are written as Python does."""
    _check_nesting(value)
    try:
        return canonicaljson.encode_canonical_json(value)
    except UnicodeEncodeError:
        raise CanonicalJsonError("a string holds a lone surrogate") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise CanonicalJsonError(str(error)) from None


def encode_pdu(pdu: Any, rules: RoomVersion) -> bytes:
    """The bytes of (a part of) a PDU under its room version, checked before if that is strict."""
    return encode_valid(pdu) if rules.strict_canonical_json else encode_lenient(pdu)


def validate(value: Any) -> None:
    """Raises CanonicalJsonError unless the value is within the strict rules of canonical JSON."""
    level = [value]
    for _ in range(MAX_NESTING + 1):
        deeper: list[Any] = []
        for item in level:
            kind = type(item)
            if kind is str and item.isascii():
                continue
            if kind is dict:
                for key in item:
                    if type(key) is not str or not (key.isascii() or _is_unicode(key)):
                        raise CanonicalJsonError("an object key is not a string of Unicode")
                deeper.extend(item.values())
            elif kind is list:
                deeper.extend(item)
            else:
                _validate_scalar(item)
        if not deeper:
            return
        level = deeper
    raise CanonicalJsonError(f"more than {MAX_NESTING} levels of nesting")


def _validate_scalar(item: Any) -> None:
    kind = type(item)
    if kind is str:
        if not _is_unicode(item):
            raise CanonicalJsonError("a string holds a lone surrogate")
    elif kind is int:
        if not -MAX_INTEGER <= item <= MAX_INTEGER:
            raise CanonicalJsonError("an integer is beyond 2^53 - 1")
    elif kind is float:
        raise CanonicalJsonError(f"{item} is not an integer")
    elif kind is not bool and item is not None:
        raise CanonicalJsonError(f"{kind.__name__} is not a JSON type")


def _is_unicode(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_nesting(value: Any) -> None:
    level = [value]
    for _ in range(MAX_NESTING + 1):
        level = [
            child
            for item in level
            if isinstance(item, dict | list)
            for child in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return
    raise CanonicalJsonError(f"more than {MAX_NESTING} levels of nesting")
