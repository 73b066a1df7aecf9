"""What a soak prints of differences: with all that is known about their events."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from soak.compare import Difference
from soak.servers import Server
from soak.views import Stored, stored_in

MAX_SHOWN = 20
MAX_LINES = 6
LONGEST_LINE = 300


async def print_differences(found: Sequence[Difference], servers: Sequence[Server]) -> None:
    """Each with what the servers have of its events, and their log lines about them."""
    for difference in found[:MAX_SHOWN]:
        room = difference.room
        print(f"\nroom {room.number} (version {room.version}, {room.room_id}): {difference.text}")
        for server in servers:
            stored = await stored_in(server, room.room_id)
            for event_id in difference.event_ids:
                for line in _about(server, event_id, stored.get(event_id)):
                    print(f"    {server.name}: {line}"[:LONGEST_LINE])
    if len(found) > MAX_SHOWN:
        print(f"\n... and {len(found) - MAX_SHOWN} more")


def _about(server: Server, event_id: str, stored: Stored | None) -> Iterator[str]:
    if stored is None:
        yield f"{event_id} is not there"
    else:
        pdu = stored.pdu
        kind = f"{pdu['type']} {pdu.get('state_key', '')}".strip()
        marks = ", ".join(sorted(stored.marks)) or "accepted"
        prev = ", ".join(map(str, pdu["prev_events"]))
        yield f"{event_id} ({marks}): {kind} of {pdu['sender']}, depth {pdu['depth']}, after {prev}"
    lines = [line for line in server.log_text().splitlines() if event_id in line]
    yield from lines[:MAX_LINES]
