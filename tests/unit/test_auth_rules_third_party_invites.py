"""The rule on invites that answer a third-party invite."""

from __future__ import annotations

from typing import Any

import nacl.signing
import pytest

from homeserver.json_types import JsonObject
from homeserver.protocol.events import Event
from homeserver.protocol.signatures import encoded_verify_key, sign_json
from tests.support.auth_cases import ALL, verdict
from tests.support.room import ALICE, BOB, CAROL, Room

KEY = nacl.signing.SigningKey(b"i" * 32)
OTHER_KEY = nacl.signing.SigningKey(b"o" * 32)


def signed(**changes: Any) -> JsonObject:
    obj: JsonObject = {"mxid": BOB, "token": "tok", "sender": ALICE} | changes
    return sign_json(obj, "id.org", "ed25519:0", KEY)


def third_party_room(version: int, **content: Any) -> Room:
    room = Room(str(version), "invite")
    content = content or {"public_key": encoded_verify_key(KEY)}
    room.send("m.room.third_party_invite", ALICE, content, "tok")
    return room


def third_party_invite(room: Room, third: Any, sender: str = ALICE) -> Event:
    content = {"membership": "invite", "third_party_invite": third}
    return room.make("m.room.member", sender, content, BOB)


NO_MATCH = "no signature matches a key of the m.room.third_party_invite"


@pytest.mark.parametrize("version", ALL)
@pytest.mark.parametrize(
    ("third", "reason"),
    [
        ({"signed": signed(), "display_name": "b"}, None),
        ({}, "third_party_invite has no signed property"),
        ("text", "third_party_invite has no signed property"),
        ({"signed": []}, "third_party_invite has no signed property"),
        ({"signed": {"mxid": BOB}}, "third_party_invite.signed has no mxid or no token"),
        ({"signed": {"token": "tok"}}, "third_party_invite.signed has no mxid or no token"),
        (
            {"signed": signed(mxid=CAROL)},
            "third_party_invite.signed.mxid is not the invited user",
        ),
        (
            {"signed": signed(token="none")},
            "there is no m.room.third_party_invite with that token",
        ),
        (
            {"signed": signed(token=["tok"])},
            "there is no m.room.third_party_invite with that token",
        ),
        ({"signed": {"mxid": BOB, "token": "tok"}}, NO_MATCH),
        ({"signed": signed() | {"sender": CAROL}}, NO_MATCH),
        ({"signed": signed() | {"signatures": {"id.org": {"ed25519:0": "?"}}}}, NO_MATCH),
        ({"signed": signed() | {"signatures": {"id.org": {"rsa:0": "AA"}, "x": 1}}}, NO_MATCH),
        ({"signed": signed() | {"signatures": []}}, NO_MATCH),
    ],
)
def test_a_third_party_invite_must_be_signed(version: int, third: Any, reason: str | None) -> None:
    room = third_party_room(version)
    verdict(room, third_party_invite(room, third), reason)


@pytest.mark.parametrize("version", ALL)
def test_a_third_party_invite_is_of_its_sender_and_not_for_a_banned_user(version: int) -> None:
    room = third_party_room(version)
    verdict(
        room,
        third_party_invite(room, {"signed": signed()}, CAROL),
        "the sender is not the one of the m.room.third_party_invite",
    )
    room.ban(ALICE, BOB)
    verdict(room, third_party_invite(room, {"signed": signed()}), "the invited user is banned")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"public_keys": [{"public_key": encoded_verify_key(KEY)}]}, None),
        (
            {
                "public_key": encoded_verify_key(OTHER_KEY),
                "public_keys": ["x", {"public_key": 1}, {"public_key": encoded_verify_key(KEY)}],
            },
            None,
        ),
        ({"public_key": encoded_verify_key(OTHER_KEY)}, NO_MATCH),
        ({"public_key": "short", "public_keys": {}}, NO_MATCH),
        ({"public_keys": [{"public_key": encoded_verify_key(OTHER_KEY)}]}, NO_MATCH),
    ],
)
def test_any_key_of_the_third_party_invite_may_sign(content: Any, reason: str | None) -> None:
    for version in ALL:
        room = third_party_room(version, **content)
        verdict(room, third_party_invite(room, {"signed": signed()}), reason)


def test_the_number_of_signature_checks_is_bounded() -> None:
    keys = [{"public_key": encoded_verify_key(nacl.signing.SigningKey(bytes([n] * 32)))} for n in
            range(100)]  # fmt: skip
    room = third_party_room(11, public_keys=[*keys, {"public_key": encoded_verify_key(KEY)}])
    verdict(room, third_party_invite(room, {"signed": signed()}), NO_MATCH)
