"""PDUs for other servers: states, auth chains, single events, as ready bytes.

Rules of this file: an event that was redacted is served pruned; nothing is parsed but that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from msgspec import Raw

from homeserver.protocol.canonical_json import encode_pdu
from homeserver.protocol.redaction import redact
from homeserver.protocol.room_versions import RoomVersion
from homeserver.store import pdus as pdu_store
from homeserver.store.auth_chains import auth_chain
from homeserver.store.database import Connection
from homeserver.store.events import Flag
from homeserver.store.pdus import PduRow


def served(row: PduRow, rules: RoomVersion) -> Raw:
    """The PDU of a row."""
    if not row.is_redacted:
        return Raw(row.json)
    return Raw(encode_pdu(redact(msgspec.json.decode(row.json), rules), rules))


async def served_by_ids(
    connection: Connection, event_ids: Iterable[str], rules: RoomVersion
) -> list[Raw]:
    """The PDUs of these events, as far as we have them; rejected ones are left out."""
    rows = await pdu_store.by_ids(connection, event_ids)
    return [served(row, rules) for row in rows.values() if not row.flags & Flag.REJECTED]


async def auth_chain_ids(connection: Connection, event_ids: Sequence[str]) -> list[str]:
    """The ids of the auth chains of these events; the events themselves only if others cite them.

    server-server-api#get_matrixfederationv1event_authroomideventid
    """
    starts = await pdu_store.by_ids(connection, event_ids)
    links = await auth_chain(connection, starts)
    by_id = {link.event_id: link for link in links}
    cited = {id_ for link in links for id_ in link.auth_events}
    return [event_id for event_id in by_id if event_id in cited or event_id not in starts]
