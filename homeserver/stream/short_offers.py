"""A big room is entered with what is needed at once of its state; the rest is dealt with later.

A server that leaves the members out does this for us; what others tell is shortened here. Nothing
is judged here: these are PDUs as they came, looked at just as far as to sort them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from homeserver.json_types import BAD_JSON
from homeserver.protocol.event_types import MEMBER
from homeserver.protocol.events import Event
from homeserver.protocol.identifiers import is_server_name, server_name_of

BIG = 300
"""A state of fewer events is taken in at once."""
HEROES = 5


class Offer(Struct, frozen=True):
    """What a server answered to our join: the signed join and the room's state before it.

    `servers`: those in the room, where the state is without its members; None: it is the whole.
    """

    join: Event
    state: Sequence[Raw]
    auth_chain: Sequence[Raw]
    servers: tuple[str, ...] | None = None

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(map(len, self.state)) + sum(map(len, self.auth_chain))


class _Content(Struct):
    membership: object = None
    join_authorised_via_users_server: object = None


class _Pdu(Struct):
    type: str
    sender: str
    state_key: str | None = None
    content: _Content | None = None

    @property
    def needed_users(self) -> Iterable[str]:
        """Whose memberships decide about it."""
        yield self.sender
        via = None if self.content is None else self.content.join_authorised_via_users_server
        if isinstance(via, str):
            yield via


_decode = msgspec.json.Decoder(_Pdu).decode


def shortened(offer: Offer, server: str) -> Offer | None:
    """The offer without the members who aren't needed to judge the rest of it; `server` made it.

    None if that isn't worth it.
    """
    if offer.servers is not None or len(offer.state) < BIG:
        return None
    state, chain = _looked_at(offer.state), _looked_at(offer.auth_chain)
    members = [(raw, pdu) for raw, pdu in (*state, *chain) if pdu.type == MEMBER]
    others = [pdu for _, pdu in (*state, *chain) if pdu.type != MEMBER]
    of_user: dict[str, list[_Pdu]] = {}
    for _, pdu in members:
        of_user.setdefault(pdu.state_key or "", []).append(pdu)
    wanted = _needed(others, offer.join, of_user)
    if not any(pdu.type in ("m.room.name", "m.room.canonical_alias") for pdu in others):
        wanted.update(sorted(of_user)[:HEROES])
    if len(wanted) > len(of_user) // 2:
        return None
    return replace(
        offer,
        state=[raw for raw, pdu in state if pdu.type != MEMBER or pdu.state_key in wanted],
        auth_chain=[raw for raw, pdu in chain if pdu.type != MEMBER or pdu.state_key in wanted],
        servers=tuple(dict.fromkeys([server, *_servers(pdu for _, pdu in state)])),
    )


def _looked_at(pdus: Iterable[Raw]) -> list[tuple[Raw, _Pdu]]:
    found = []
    for raw in pdus:
        try:
            found.append((raw, _decode(raw)))
        except BAD_JSON:
            continue  # it would not be taken anyway
    return found


def _needed(others: Iterable[_Pdu], join: Event, of_user: dict[str, list[_Pdu]]) -> set[str]:
    """The users whose memberships are needed: of senders, and of those who let these in."""
    via = join.content.get("join_authorised_via_users_server")
    waiting = [join.sender, *([via] if isinstance(via, str) else [])]
    for pdu in others:
        waiting.extend(pdu.needed_users)
    wanted: set[str] = set()
    while waiting:
        user_id = waiting.pop()
        if user_id not in wanted:
            wanted.add(user_id)
            for pdu in of_user.get(user_id, ()):
                waiting.extend(pdu.needed_users)
    return wanted


def _servers(state: Iterable[_Pdu]) -> Iterable[str]:
    for pdu in state:
        if pdu.type == MEMBER and pdu.content is not None and pdu.content.membership == "join":
            name = server_name_of(pdu.state_key or "")
            if is_server_name(name):
                yield name
