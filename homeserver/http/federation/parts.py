"""The parts that the doors for other servers use."""

from __future__ import annotations

from msgspec import Struct

from homeserver.services.federation_sender.sender import FederationSender
from homeserver.services.incoming_edus import IncomingEdus
from homeserver.services.invites import Invites
from homeserver.services.published_keys import PublishedKeys
from homeserver.services.remote_membership import RemoteMembership
from homeserver.services.remote_profiles import RemoteProfiles
from homeserver.services.resident import Resident
from homeserver.services.resync import Resync
from homeserver.services.served_history import ServedHistory
from homeserver.services.third_party_invites import ThirdPartyInvites
from homeserver.stream.inbound import Inbound


class FederationParts(Struct, frozen=True):
    """What `call.parts.federation` offers."""

    inbound: Inbound
    edus: IncomingEdus
    sender: FederationSender
    published_keys: PublishedKeys
    resident: Resident
    resync: Resync
    profiles: RemoteProfiles
    history: ServedHistory
    invites: Invites
    remote_membership: RemoteMembership
    third_party_invites: ThirdPartyInvites
