"""Which members of a big room are needed to judge the rest of its state."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw

from homeserver.protocol.events import Event
from homeserver.protocol.room_versions import ROOM_VERSIONS
from homeserver.stream.short_offers import BIG, Offer, shortened

ROOM = "!room:one.test"
JOINER = "@joiner:us.test"


def pdu(event_type: str, sender: str, state_key: str = "", **content: Any) -> Raw:
    fields = {"type": event_type, "sender": sender, "state_key": state_key, "content": content}
    return Raw(msgspec.json.encode(fields))


def member(user_id: str, sender: str | None = None, membership: str = "join") -> Raw:
    return pdu("m.room.member", sender or user_id, user_id, membership=membership)


def offer(*state: Raw, chain: tuple[Raw, ...] = (), **content: Any) -> Offer:
    join = Event(
        rules=ROOM_VERSIONS["11"],
        event_id="$join",
        room_id=ROOM,
        type="m.room.member",
        sender=JOINER,
        state_key=JOINER,
        content={"membership": "join", **content},
        depth=1,
        origin_server_ts=0,
        prev_events=(),
        auth_events=(),
        redacts=None,
        json=b"{}",
    )
    crowd = [member(f"@user{number}:two.test") for number in range(BIG)]
    return Offer(join, [*state, *crowd], chain)


def users(pdus: Any) -> set[str]:
    decoded = [msgspec.json.decode(raw) for raw in pdus]
    return {event["state_key"] for event in decoded if event["type"] == "m.room.member"}


def test_who_sent_state_stays_and_whoever_let_them_in() -> None:
    name = pdu("m.room.name", "@namer:one.test", name="far")
    chain = (member("@namer:one.test", "@inviter:three.test", "invite"),)
    state = (name, member("@namer:one.test"), member("@inviter:three.test"))
    short = shortened(offer(*state, chain=chain), "one.test")
    assert short is not None
    assert users(short.state) == {"@namer:one.test", "@inviter:three.test"}
    assert users(short.auth_chain) == {"@namer:one.test"}
    assert name in short.state


def test_who_vouches_for_the_join_stays() -> None:
    name = pdu("m.room.name", "@namer:one.test", name="far")
    voucher = "@voucher:one.test"
    told = offer(name, member(voucher), join_authorised_via_users_server=voucher)
    short = shortened(told, "one.test")
    assert short is not None and users(short.state) == {voucher}


def test_a_room_without_a_name_keeps_some_to_be_called_after() -> None:
    short = shortened(offer(), "one.test")
    assert short is not None and len(users(short.state)) == 5


def test_the_servers_of_all_who_are_in_the_room_are_known() -> None:
    gone = member("@gone:four.test", membership="leave")
    short = shortened(offer(member("@x:three.test"), gone), "one.test")
    assert short is not None
    assert short.servers == ("one.test", "three.test", "two.test")


def test_small_rooms_and_shortened_ones_stay_as_they_are() -> None:
    told = offer()
    assert shortened(Offer(told.join, told.state[: BIG - 1], ()), "one.test") is None
    assert shortened(Offer(told.join, told.state, (), ("two.test",)), "one.test") is None


def test_what_is_no_pdu_is_left_out() -> None:
    nothing = (b'"nothing"', b'{"type": 5}', b'{"type": "\xff"}', b'{"a":' + b"[" * 100_000)
    short = shortened(offer(*map(Raw, nothing)), "one.test")
    assert short is not None and users(short.state)
