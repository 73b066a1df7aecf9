"""Whatever happens, and from whatever token a client goes on: folded answers are the truth."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.model.world import World
from tests.support.server import RunningServer

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "12"))

KINDS = (
    *("send", "send", "send", "thread", "topic", "join", "join", "leave", "invite", "kick"),
    *("redact", "receipt", "receipt", "typing", "account_data", "rename"),
)
ACTIONS = st.tuples(
    st.sampled_from(KINDS), st.integers(0, 99), st.integers(0, 99), st.integers(0, 99)
)
SYNCS = st.tuples(
    st.just("sync"), st.integers(0, 99), st.just(0), st.sampled_from((0, 0, 0, 1, 2, 3, 9))
)
FAULTS = st.tuples(
    st.sampled_from(("forget_memory", "forget_memory", "restart")),
    st.just(0),
    st.just(0),
    st.just(0),
)
STEPS = st.one_of(ACTIONS, ACTIONS, SYNCS, SYNCS, FAULTS)


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=st.lists(STEPS, min_size=10, max_size=50))
async def test_folded_answers_are_the_truth(
    server: RunningServer, steps: list[tuple[str, int, int, int]]
) -> None:
    world = await World.make(server)
    for kind, who, where, what in steps:
        if kind == "sync":
            await world.sync(world.device(who), what)
        elif kind in ("forget_memory", "restart"):
            await getattr(world, kind)()
        else:
            await world.act(kind, who, where, what)
    for device in world.devices:
        await world.sync(device, 0)
        await world.sync(device, len(device.history))
