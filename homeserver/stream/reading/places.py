"""Tokens of places in a room's timeline, as clients carry them about.

Rules of this file: a *place* is a timeline order and stands between the events of a lower order
and the event of this one. `t<order>` names a place; `s<position>` (a sync token) is the place
after everything up to that stream position. Both outlive restarts.
"""

from __future__ import annotations

from homeserver.errors import InvalidParam
from homeserver.store.events import HIGHEST_ORDER, LOWEST_ORDER, ORDER_STEP

_MAX_DIGITS = 19


def place_after(position: int) -> int:
    """The place after everything that a stream position makes visible."""
    return min(HIGHEST_ORDER, (position + 1) * ORDER_STEP)


def place_token(place: int) -> str:
    return f"t{place}"


def place_of(token: str, newest: int) -> int:
    """The place that a token names. `newest` is the last visible stream position.

    Raises InvalidParam for what isn't a token of this server.
    """
    kind, digits = token[:1], token[1:]
    number = digits.removeprefix("-") if kind == "t" else digits
    if not (number.isascii() and number.isdigit() and len(number) <= _MAX_DIGITS):
        raise InvalidParam("This is not a token that this server gave you")
    value = int(digits)
    if kind == "s" and value <= newest:
        return place_after(value)
    if kind == "t" and LOWEST_ORDER <= value <= HIGHEST_ORDER:
        return value
    raise InvalidParam("This is not a token that this server gave you")
