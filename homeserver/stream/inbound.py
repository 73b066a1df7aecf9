"""The parts through which events of other servers come in, built and joined."""

from __future__ import annotations

from msgspec import Struct

from homeserver.clock import Clock
from homeserver.remote.core import RemoteCore
from homeserver.store.database import Database
from homeserver.stream.backfill import Backfill
from homeserver.stream.catch_up import CatchUp
from homeserver.stream.completion import Completion
from homeserver.stream.core import StreamCore
from homeserver.stream.enter_room import RoomEntry
from homeserver.stream.extremities import Extremities
from homeserver.stream.gaps import Gaps
from homeserver.stream.incoming import Incoming
from homeserver.stream.invited_servers import InvitedServers
from homeserver.stream.outliers import Outliers
from homeserver.stream.outside_memberships import OutsideMemberships
from homeserver.stream.policy_servers import PolicyServers
from homeserver.stream.receive import Receiver
from homeserver.stream.verify import Verifier
from homeserver.stream.whole_state import WholeStates


class Inbound(Struct, frozen=True):
    """What `build` joins. `incoming` is to be started before the server listens, `extremities` is
    to be run."""

    verifier: Verifier
    outliers: Outliers
    gaps: Gaps
    receiver: Receiver
    incoming: Incoming
    entry: RoomEntry
    outside: OutsideMemberships
    whole_states: WholeStates
    completion: Completion
    extremities: Extremities
    backfill: Backfill
    invited_servers: InvitedServers


def build(
    database: Database, stream: StreamCore, remote: RemoteCore, server_name: str, clock: Clock
) -> Inbound:
    """From the door of transactions to the stream's writer."""
    rooms, writer = stream.rooms, stream.writer
    verifier = Verifier(remote.keyring)
    outliers = Outliers(database, rooms, writer)
    gaps = Gaps(database, remote.client, verifier, outliers, server_name)
    receiver = Receiver(database, rooms, writer, stream.push_evaluator, server_name)
    policy_servers = PolicyServers(rooms, remote.client, server_name)
    stream.sender.policy_servers = policy_servers
    backfill = Backfill(database, rooms, writer, gaps, clock)
    catch_up = CatchUp(rooms, gaps, receiver, policy_servers, stream.whole_rooms, backfill)
    incoming = Incoming(database, rooms, verifier, catch_up, clock)
    extremities = Extremities(rooms, stream.sender, incoming, clock)
    writer.on_publish(extremities.published)
    stream.sender.merge_extremities = extremities.merge
    entry = RoomEntry(database, rooms, writer, verifier, server_name)
    outside = OutsideMemberships(database, rooms, writer, verifier)
    stream.reading.pages.more_history = backfill.more_history
    return Inbound(
        verifier=verifier,
        outliers=outliers,
        gaps=gaps,
        receiver=receiver,
        incoming=incoming,
        entry=entry,
        outside=outside,
        whole_states=WholeStates(database, rooms, gaps, entry.offers),
        completion=Completion(database, rooms, writer, server_name, clock),
        extremities=extremities,
        backfill=backfill,
        invited_servers=InvitedServers(database, remote.client, policy_servers),
    )
