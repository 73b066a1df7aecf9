"""Reading a room's state from the database: `python -m bench.state_map`.

10,000 entries as one snapshot, and as a snapshot of half of them under 5,000 deltas, the longest
chain that the server ever makes.
"""

from __future__ import annotations

import asyncio
import time

from homeserver.store import state
from homeserver.store.database import Connection, Database
from homeserver.store.state import StateGroupRow
from tests.support import postgres

ENTRIES, ROOM = 10_000, 1


async def write_room(connection: Connection) -> None:
    """Events 1 to 10,000, the groups 10,000 and 5,000 (snapshots) and 25,001 to 30,000 (deltas)."""
    await connection.execute(
        """
        INSERT INTO events (number, room_number, event_id, type, state_key, sender,
                            origin_server_ts, auth_events, flags, json)
        SELECT n, $2, '$' || lpad(n::text, 43, 'e'), 'm.room.member', '@user' || n || ':h.org',
               '@user' || n || ':h.org', n, '{}', 0, convert_to(repeat('x', 600), 'UTF8')
        FROM generate_series(1, $1::bigint) AS n
        """,
        ENTRIES,
        ROOM,
    )
    half = ENTRIES // 2
    rows = [
        group(ENTRIES, None, range(1, ENTRIES + 1)),
        group(half, None, range(1, half + 1)),
    ]
    below = half
    for number in range(half + 1, ENTRIES + 1):
        rows.append(group(2 * ENTRIES + number, below, [number]))
        below = 2 * ENTRIES + number
    await state.insert(connection, rows)
    await connection.execute("ANALYZE")


def group(number: int, base: int | None, event_numbers: range | list[int]) -> StateGroupRow:
    return StateGroupRow(number, ROOM, base, tuple(event_numbers), (), ENTRIES, 0, None)


async def best_ms(connection: Connection, state_group: int) -> float:
    best = float("inf")
    for _ in range(7):
        start = time.perf_counter()
        loaded = await state.load(connection, [state_group])
        best = min(best, time.perf_counter() - start)
        assert len(loaded[state_group]) == ENTRIES
    return best * 1000


async def main() -> None:
    postgres.begin_run()
    try:
        async with postgres.cloned(await asyncio.to_thread(postgres.template_url)) as url:
            database = await Database.open(url, connections=2)
            async with database.transaction() as connection:
                await write_room(connection)
            async with database.connection() as connection:
                snapshot = await best_ms(connection, ENTRIES)
                chain = await best_ms(connection, 3 * ENTRIES)
            await database.close()
    finally:
        postgres.end_run()
    print("| | ours |\n|---|---|")
    print(f"| state of {ENTRIES:,} entries from a snapshot | {snapshot:.0f} ms, 1 query |")
    print(f"| ... from a snapshot and {ENTRIES // 2:,} deltas | {chain:.0f} ms, 1 query |")


if __name__ == "__main__":
    asyncio.run(main())
