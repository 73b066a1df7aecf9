"""What waits for an application service: nothing is lost, doubled, or told too early."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from homeserver.services.app_services.queues import AT_ONCE, MAX_WAITING, Queues
from homeserver.services.app_services.transaction import Waiting

KINDS = ("events", "to_device", "receipts", "devices")
arrivals = st.lists(
    st.tuples(st.sampled_from(KINDS), st.integers(0, 3), st.integers(1, 2 * AT_ONCE)), max_size=12
)


@given(arrivals)
def test_everything_is_taken_once_and_in_order(steps: list[tuple[str, int, int]]) -> None:
    queues = Queues()
    put: dict[str, list[int]] = {kind: [] for kind in KINDS}
    position = 1
    for kind, gap, count in steps:
        position += gap
        for _ in range(count):
            position += gap > 1  # otherwise many at one position: one message to many devices
            getattr(queues, kind).append(Waiting(position))
            put[kind].append(position)
    taken: dict[str, list[int]] = {kind: [] for kind in KINDS}
    reached = 0
    while queues:
        batch = queues.take(reached)
        kinds = (batch.events, batch.to_device, batch.ephemeral, batch.devices)
        found = dict(zip(KINDS, kinds, strict=True))
        assert any(found.values())
        for kind, waiting in found.items():
            positions = [each.position for each in waiting]
            assert all(reached < position <= batch.upto for position in positions)
            assert len(positions) <= AT_ONCE or len(set(positions)) == 1
            taken[kind] += positions
        reached = batch.upto
    assert taken == put


def test_of_who_types_only_the_newest_is_kept() -> None:
    queues = Queues()
    for number in range(3):
        queues.put_passing(("typing", "!a"), Waiting(number, b"%d" % number))
    queues.put_passing(("typing", "!b"), Waiting(9, b"9"))
    assert [waiting.json for waiting in queues.take(0).ephemeral] == [b"2", b"9"]
    assert not queues


def test_what_passes_has_no_position() -> None:
    queues = Queues()
    queues.put_passing("x", Waiting(7))
    assert queues.take(3).upto == 3


def test_too_much_is_left_to_postgres() -> None:
    queues = Queues()
    for number in range(MAX_WAITING + 1):
        assert not queues.is_too_long
        queues.receipts.append(Waiting(number))
        queues.put_passing(number, Waiting(number))
    assert queues.is_too_long
    queues.clear()
    assert len(queues.take(0).ephemeral) == 2 * AT_ONCE  # who types is nowhere else
