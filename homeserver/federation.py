"""The parts for other servers, built and joined; `app.py` runs them."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from homeserver.clock import now_ms
from homeserver.config import Config
from homeserver.http.federation.parts import FederationParts
from homeserver.json_types import JsonObject
from homeserver.protocol.spaces import Child, in_order, is_child
from homeserver.remote.core import RemoteCore
from homeserver.remote.hierarchy import RemoteHierarchy
from homeserver.services.encryption.parts import EncryptionParts
from homeserver.services.federation_sender.sender import FederationSender
from homeserver.services.incoming_edus import IncomingEdus
from homeserver.services.invites import Invites
from homeserver.services.published_keys import PublishedKeys
from homeserver.services.remote_membership import RemoteMembership
from homeserver.services.remote_profiles import RemoteProfiles
from homeserver.services.resident import Resident
from homeserver.services.resync import Resync
from homeserver.services.room_summaries import RoomSummaries
from homeserver.services.served_history import ServedHistory
from homeserver.services.spaces import Found, Spaces
from homeserver.services.third_party_invites import ThirdPartyInvites
from homeserver.store.database import Database
from homeserver.stream import inbound as stream_inbound
from homeserver.stream.core import StreamCore
from homeserver.stream.summaries import Visitor


class Ground(Struct, frozen=True):
    """What federation is built on."""

    config: Config
    database: Database
    stream: StreamCore
    remote: RemoteCore


def build(ground: Ground) -> FederationParts:
    """All of it, not yet running."""
    config, database = ground.config, ground.database
    stream, remote = ground.stream, ground.remote
    inbound = stream_inbound.build(database, stream, remote, config.server_name, now_ms)
    tells_names = config.federation.device_names
    sender = FederationSender(database, stream, remote, now_ms, tells_names=tells_names)
    return FederationParts(
        inbound=inbound,
        edus=IncomingEdus(database, stream, inbound.incoming, now_ms),
        sender=sender,
        resident=Resident(database, stream, inbound),
        history=ServedHistory(database, stream, inbound),
        resync=Resync(database, stream, inbound),
        profiles=RemoteProfiles(remote.client),
        invites=Invites(database, stream, inbound),
        remote_membership=RemoteMembership(database, stream, inbound, remote.client, now_ms),
        third_party_invites=ThirdPartyInvites(database, stream, inbound, remote.client),
        published_keys=PublishedKeys(
            database, remote, stream.sender.signer, config.federation.old_signing_keys, now_ms
        ),
    )


def take_encryption_edus(edus: IncomingEdus, encryption: EncryptionParts) -> None:
    """What other servers tell of devices goes to end-to-end encryption."""
    edus.give_to("m.direct_to_device", encryption.to_device.receive)
    edus.give_to("m.device_list_update", encryption.remote_device_lists.receive_update)
    edus.give_to("m.signing_key_update", encryption.remote_device_lists.receive_signing_keys)


def look_elsewhere(spaces: Spaces, summaries: RoomSummaries, hierarchy: RemoteHierarchy) -> None:
    """Rooms that we aren't in, of spaces or on their own, are asked for at other servers."""

    async def elsewhere(children: Sequence[Child], looking: Visitor) -> dict[str, Found]:
        rooms = await hierarchy.rooms({child.room_id: child.via for child in children})
        return {r: _found(room) for r, room in rooms.items() if looking.may_see(room)}

    async def summary_elsewhere(
        room_id: str, servers: Sequence[str], looking: Visitor
    ) -> JsonObject | None:
        room = (await hierarchy.rooms({room_id: servers})).get(room_id)
        return None if room is None or not looking.may_see(room) else _found(room).summary

    spaces.elsewhere = elsewhere
    summaries.elsewhere = summary_elsewhere


def _found(room: JsonObject) -> Found:
    children = [
        Child(event["state_key"], event["sender"], event["content"], event["origin_server_ts"])
        for event in room["children_state"]
        if is_child(event["content"])
    ]
    summary = {key: value for key, value in room.items() if key != "children_state"}
    return Found(summary, in_order(children))
