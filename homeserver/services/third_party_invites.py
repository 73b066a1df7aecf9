"""Invites by e-mail address and the like become invites of users, once an identity server says
whose the address is.

Rules of this file: that it does say so is proved by its signature alone, which the auth rules
verify with the keys of the room's `m.room.third_party_invite` event.
server-server-api#third-party-invites
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import structlog
from msgspec import Struct

from homeserver.errors import BadJson, Forbidden, MatrixError, NotFound
from homeserver.json_types import JsonObject
from homeserver.protocol.event_types import MEMBER
from homeserver.protocol.events import Event, sign_pdu
from homeserver.protocol.identifiers import is_room_id, is_user_id, server_name_of
from homeserver.remote.client import FederationClient, Terms, path_to
from homeserver.store import accounts as account_store
from homeserver.store.database import Database
from homeserver.stream.core import StreamCore
from homeserver.stream.drafts import Draft
from homeserver.stream.inbound import Inbound
from homeserver.stream.live_room import LiveRoom
from homeserver.stream.room_power import state_event

V1 = "/_matrix/federation/v1"
THIRD_PARTY_INVITE = "m.room.third_party_invite"
TERMS = Terms(seconds=30.0)
MAX_BOUND = 100
AT_ONCE = 5

log = structlog.get_logger(__name__)


class Claim(Struct, frozen=True):
    """A user who answers an invite: who they are, who invited, and the identity server's word."""

    room_id: str
    sender: str
    user_id: str
    signed: JsonObject


class ThirdPartyInvites:
    """Turns pending third-party invites into invites."""

    def __init__(
        self,
        database: Database,
        stream: StreamCore,
        inbound: Inbound,
        client: FederationClient,
    ) -> None:
        self._database = database
        self._stream = stream
        self._inbound = inbound
        self._client = client
        self._server_name = stream.sender.signer.server_name

    async def exchange(self, room: LiveRoom, claim: Claim) -> None:
        """Another server asks for an invite in the name of a user of ours.

        `room` is one that we are in. Raises Forbidden, and what the invited user's server refuses
        with. server-server-api#put_matrixfederationv1exchange_third_party_inviteroomid
        """
        if not self._is_ours(claim.sender):
            raise Forbidden("The inviter is not of this server")
        await self._issue(room, claim)

    async def accept(self, room_id: str, user_id: str, signed: JsonObject) -> None:
        """A user of ours joins with an identity server's word. Raises BadJson, Forbidden.

        client-server-api#third-party-invites
        """
        sender = signed.get("sender")
        if not isinstance(signed.get("token"), str) or not isinstance(
            signed.get("signatures"), dict
        ):
            raise BadJson("`third_party_signed` needs `mxid`, `sender`, `signatures` and `token`")
        if signed.get("mxid") != user_id:
            raise Forbidden("The invite was signed for another user")
        await self._claim(Claim(room_id, sender if is_user_id(sender) else "", user_id, signed))

    async def bound(self, user_id: str, invites: Sequence[Any]) -> None:
        """An identity server tells that an address is a user's of ours. Raises NotFound.

        What it says of single invites may be wrong: such an invite is left out.
        server-server-api#put_matrixfederationv13pidonbind
        """
        await self._require_user(user_id)
        claims = [_claim_of(user_id, invite) for invite in invites[:MAX_BOUND]]
        at_once = asyncio.Semaphore(AT_ONCE)

        async def follow(claim: Claim) -> None:
            async with at_once:
                try:
                    await self._claim(claim)
                except MatrixError as error:
                    log.info("no invite", room_id=claim.room_id, reason=error.message)

        await asyncio.gather(*(follow(claim) for claim in claims if claim is not None))

    async def _claim(self, claim: Claim) -> None:
        """ "If the invited homeserver is in the room the invite came from, it can auth the event
        and send it. However, if [it] isn't in the room [...], it will need to request the inviting
        homeserver to auth the event" """
        room = await self._stream.rooms.get(claim.room_id)
        if room is not None and room.joined_local:
            await self._issue(room, claim)
            return
        if not claim.sender or self._is_ours(claim.sender):
            raise Forbidden("Nobody is left here who could invite you to this room")
        partial = {
            "type": MEMBER,
            "room_id": claim.room_id,
            "sender": claim.sender,
            "state_key": claim.user_id,
            "content": _content(claim, claim.user_id),
        }
        path = path_to(f"{V1}/exchange_third_party_invite", claim.room_id)
        await self._client.put(server_name_of(claim.sender), path, partial, TERMS)

    async def _issue(self, room: LiveRoom, claim: Claim) -> None:
        if room.membership_of(claim.user_id) == "join":
            raise Forbidden("This user is already in the room")
        token = claim.signed.get("token")
        invite = (
            await state_event(self._stream.rooms, room, THIRD_PARTY_INVITE, token)
            if isinstance(token, str)
            else None
        )
        if invite is None:
            raise Forbidden("The room has no pending invite with this token")
        display_name = invite.content.get("display_name", "")
        draft = Draft(invite.sender, MEMBER, _content(claim, display_name), claim.user_id)
        if self._is_ours(claim.user_id):
            await self._require_user(claim.user_id)
            await self._stream.users.invites.require(claim.user_id, invite.sender)
            if self._is_ours(invite.sender):
                await self._stream.sender.send(room.room_id, draft)
                return
        event = await self._event(room, draft)
        if not self._is_ours(claim.user_id):
            event = await self._inbound.invited_servers.signed(room, event)
        await self._take(event)

    async def _event(self, room: LiveRoom, draft: Draft) -> Event:
        """The invite, signed by us whoever its sender: "the server which actually sends the event
        may be a different server". Raises Forbidden."""
        template = await self._stream.sender.template(room.room_id, draft)
        if room.rules.event_id_in_pdu:
            template["event_id"] = self._stream.sender.new_event_id()
        return sign_pdu(template, room.rules, self._stream.sender.signer)

    async def _take(self, event: Event) -> None:
        """Take the invite into the room, like one that comes from outside, and tell the others."""
        with self._inbound.receiver.relaying(event.event_id):
            await self._inbound.incoming.accept(self._server_name, event)

    async def _require_user(self, user_id: str) -> None:
        async with self._database.connection() as connection:
            if not await account_store.existing(connection, [user_id]):
                raise NotFound("There is no such user")

    def _is_ours(self, user_id: str) -> bool:
        return server_name_of(user_id) == self._server_name


def _content(claim: Claim, display_name: Any) -> JsonObject:
    third_party = {"display_name": display_name, "signed": claim.signed}
    return {"membership": "invite", "third_party_invite": third_party}


def _claim_of(user_id: str, invite: Any) -> Claim | None:
    """An entry of `invites`, if it is one for this user."""
    if not isinstance(invite, dict):
        return None
    room_id, sender, signed = invite.get("room_id"), invite.get("sender"), invite.get("signed")
    if not is_room_id(room_id) or not is_user_id(sender) or not isinstance(signed, dict):
        return None
    if invite.get("mxid") != user_id or signed.get("mxid") != user_id:
        return None
    return Claim(room_id, sender, user_id, signed)
