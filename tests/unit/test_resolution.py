"""Server discovery, step by step, with the network as two functions."""

from __future__ import annotations

from typing import Any, cast

import pytest

from homeserver.remote.resolution import Resolution, ResolutionError, SrvRecord, Target
from homeserver.remote.well_known import WellKnown, cache_seconds


class Net:
    """What the network says, and what it was asked."""

    def __init__(self) -> None:
        self.delegations: dict[str, str] = {}
        self.srv: dict[str, list[SrvRecord]] = {}
        self.asked: list[str] = []
        self.now = 0.0
        self.broken = False

    async def delegated_name(self, host: str) -> str | None:
        self.asked.append(host)
        return self.delegations.get(host)

    async def lookup(self, name: str) -> list[SrvRecord]:
        self.asked.append(name)
        if self.broken:
            raise ResolutionError("no answer")
        return self.srv.get(name, [])

    def resolution(self, **overrides: str) -> Resolution:
        return Resolution(
            cast(WellKnown, self), self.lookup, overrides, lambda: self.now, lambda: 0.0
        )


@pytest.fixture
def net() -> Net:
    return Net()


def record(host: str, port: int, priority: int = 0, weight: int = 1) -> SrvRecord:
    return SrvRecord(host, port, priority, weight, 60.0)


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("1.2.3.4", Target("1.2.3.4", 8448, "1.2.3.4", "1.2.3.4")),
        ("1.2.3.4:99", Target("1.2.3.4", 99, "1.2.3.4:99", "1.2.3.4")),
        ("[1::2]", Target("1::2", 8448, "[1::2]", "1::2")),
        ("[1::2]:99", Target("1::2", 99, "[1::2]:99", "1::2")),
        ("a.test:99", Target("a.test", 99, "a.test:99", "a.test")),
    ],
)
async def test_steps_1_and_2_ask_nobody(net: Net, name: str, target: Target) -> None:
    assert await net.resolution().targets(name) == [target]
    assert net.asked == []


@pytest.mark.parametrize(
    ("delegated", "target"),
    [
        ("1.2.3.4", Target("1.2.3.4", 8448, "1.2.3.4", "1.2.3.4")),
        ("[1::2]:99", Target("1::2", 99, "[1::2]:99", "1::2")),
        ("b.test:99", Target("b.test", 99, "b.test:99", "b.test")),
        ("b.test", Target("b.test", 8448, "b.test", "b.test")),
    ],
)
async def test_step_3_follows_the_delegation(net: Net, delegated: str, target: Target) -> None:
    net.delegations["a.test"] = delegated
    assert await net.resolution().targets("a.test") == [target]


@pytest.mark.parametrize("service", ["_matrix-fed", "_matrix"])
async def test_steps_3_3_and_3_4_look_up_the_delegated_name(net: Net, service: str) -> None:
    net.delegations["a.test"] = "b.test"
    net.srv[f"{service}._tcp.b.test"] = [record("c.test", 7)]
    assert await net.resolution().targets("a.test") == [Target("c.test", 7, "b.test", "b.test")]


@pytest.mark.parametrize("service", ["_matrix-fed", "_matrix"])
async def test_steps_4_and_5_keep_the_name_for_host_and_certificate(net: Net, service: str) -> None:
    net.srv[f"{service}._tcp.a.test"] = [record("c.test", 7)]
    assert await net.resolution().targets("a.test") == [Target("c.test", 7, "a.test", "a.test")]


async def test_step_6_is_the_name_itself(net: Net) -> None:
    assert await net.resolution().targets("a.test") == [Target("a.test", 8448, "a.test", "a.test")]
    assert net.asked == ["a.test", "_matrix-fed._tcp.a.test", "_matrix._tcp.a.test"]


async def test_srv_records_come_in_the_order_of_priority(net: Net) -> None:
    name = "_matrix-fed._tcp.a.test"
    net.srv[name] = [record("last", 1, 20), record("zero", 2, 10, 0), record("first", 3, 10, 5)]
    targets = await net.resolution().targets("a.test")
    assert [target.host for target in targets][-1] == "last"
    assert {target.host for target in targets} == {"first", "zero", "last"}


async def test_srv_records_are_cached_and_survive_a_broken_name_server(net: Net) -> None:
    name = "_matrix-fed._tcp.a.test"
    net.srv[name] = [record("c.test", 7)]
    resolution = net.resolution()
    expected = await resolution.targets("a.test")
    await resolution.targets("a.test")
    assert net.asked.count(name) == 1
    net.now, net.broken = 61.0, True
    assert await resolution.targets("a.test") == expected
    assert net.asked.count(name) == 2
    with pytest.raises(ResolutionError):
        await net.resolution().targets("a.test")


async def test_an_override_replaces_the_place_only(net: Net) -> None:
    resolution = net.resolution(**{"a.test": "127.0.0.1:8449"})
    assert await resolution.targets("a.test") == [Target("127.0.0.1", 8449, "a.test", "a.test")]
    assert net.asked == []


async def test_nonsense_is_no_server_name(net: Net) -> None:
    with pytest.raises(ResolutionError):
        await net.resolution().targets("a/b")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 86400),
        ({"Cache-Control": "max-age=7200"}, 7200),
        ({"Cache-Control": "public, Max-Age=9999999"}, 172800),
        ({"Cache-Control": "max-age=0"}, 300),
        ({"Cache-Control": "no-store"}, 300),
        ({"Cache-Control": "s-maxage=5"}, 86400),
    ],
)
def test_how_long_a_delegation_is_kept(headers: dict[str, Any], seconds: float) -> None:
    assert cache_seconds(headers) == seconds


@pytest.mark.parametrize("name", ["a.test:0", "a.test:65536", "1.2.3.4:99999", "[1::2]:70000"])
async def test_a_port_that_cannot_be_is_nowhere(net: Net, name: str) -> None:
    with pytest.raises(ResolutionError):
        await net.resolution().targets(name)
    net.delegations["delegating.test"] = name
    with pytest.raises(ResolutionError):
        await net.resolution().targets("delegating.test")
