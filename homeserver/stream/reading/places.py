"""Tokens of places in a room's timeline, as clients carry them about.

Rules of this file: a *place* is a timeline order and stands between the events of a lower order
and the event of this one. `t<order>` names a place; `s<position>` (a sync token) is the place
after everything up to that stream position. `t<order>.<order>` is the first place for who reads
on, and the second one for who asks what held then. All outlive restarts.
"""

from __future__ import annotations

from homeserver.errors import InvalidParam
from homeserver.store.events import HIGHEST_ORDER, LOWEST_ORDER, ORDER_STEP
from homeserver.stream.sync_request import parse_token

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
    of_sync = parse_token(token)
    if of_sync is not None and of_sync.position <= newest:
        return place_after(of_sync.position)
    return _places(token)[0]


def moment_of(token: str, newest: int) -> int:
    """The place whose state a token means. Raises InvalidParam."""
    return _places(token)[1] if "." in token else place_of(token, newest)


def _places(token: str) -> tuple[int, int]:
    start, dot, end = token[1:].partition(".")
    first = _order(token[:1], start)
    return first, _order(token[:1], end) if dot else first


def _order(kind: str, order: str) -> int:
    digits = order.removeprefix("-")
    if kind == "t" and digits.isascii() and digits.isdigit() and len(digits) <= _MAX_DIGITS:
        place = int(order)
        if LOWEST_ORDER <= place <= HIGHEST_ORDER:
            return place
    raise InvalidParam("This is not a token that this server gave you")
