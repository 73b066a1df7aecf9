"""State events that clients send: each type's own rules, before the auth rules of every event.

Rules of this file: what is refused here is refused to our clients only; events of other servers
are judged by the auth rules alone.
"""

from __future__ import annotations

from homeserver.errors import BadJson, InvalidParam
from homeserver.json_types import JsonObject
from homeserver.protocol.power_levels import creators_of
from homeserver.protocol.rejection import Rejected
from homeserver.protocol.server_acl import ServerAcl
from homeserver.protocol.state_content import check_content
from homeserver.stream.alias_names import AliasNames
from homeserver.stream.drafts import Draft, Transaction
from homeserver.stream.live_rooms import LiveRooms
from homeserver.stream.room_power import state_event
from homeserver.stream.send import Sender
from homeserver.stream.stored_event import StoredEvent


class ClientState:
    """Sends state events of clients. Those of members have rules of their own: `Membership`."""

    def __init__(self, rooms: LiveRooms, sender: Sender, aliases: AliasNames) -> None:
        self._rooms = rooms
        self._sender = sender
        self._aliases = aliases

    async def send(
        self, room_id: str, draft: Draft, transaction: Transaction | None = None
    ) -> StoredEvent:
        """Check a state event and send it. Raises what the checks and `Sender.send` raise."""
        if draft.type == "m.room.create":
            raise InvalidParam("A room's create event can't be sent again")
        require_content(draft)
        if draft.type == "m.room.server_acl" and draft.state_key == "":
            self._check_server_acl(draft.content)
        if draft.type == "m.room.power_levels" and draft.state_key == "":
            await self._check_power_levels(room_id, draft.content)
        if draft.type == "m.room.tombstone" and draft.content.get("replacement_room") == room_id:
            raise InvalidParam("A room can't be replaced by itself")
        if draft.type == "m.room.canonical_alias" and draft.state_key == "":
            await self._check_canonical_alias(room_id, draft)
        return await self._sender.send(room_id, draft, transaction)

    def _check_server_acl(self, content: JsonObject) -> None:
        """A list that shuts out this server would leave its sender unable to take it back."""
        if not ServerAcl(content).allows(self._sender.signer.server_name):
            raise InvalidParam("This list would shut out your own server")

    async def _check_power_levels(self, room_id: str, content: JsonObject) -> None:
        """The auth rules refuse this too, but as forbidden."""
        room = await self._rooms.get(room_id)
        if room is None or not room.rules.privileged_creators:
            return
        create = await state_event(self._rooms, room, "m.room.create")
        creators = frozenset() if create is None else creators_of(room.rules, create.event)
        if creators & content.get("users", {}).keys():
            raise BadJson("The room's creators have no place in `users`")

    async def _check_canonical_alias(self, room_id: str, draft: Draft) -> None:
        room = await self._rooms.get(room_id)
        if room is None:
            return  # `Sender.send` says so
        standing = await state_event(self._rooms, room, draft.type)
        await self._aliases.check_canonical(
            room_id, draft.content, {} if standing is None else standing.content
        )


def require_content(draft: Draft) -> None:
    """Raises BadJson for content that no event of this type can have."""
    try:
        check_content(draft.type, draft.content)
    except Rejected as rejected:
        raise BadJson(rejected.reason) from None
