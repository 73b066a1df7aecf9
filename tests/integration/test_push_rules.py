"""Push rules over HTTP: changed, served, seen in /sync at once by every device."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote

import pytest

from homeserver.json_types import JsonObject
from tests.support.client import Client, Refused
from tests.support.server import RunningServer

CAKE = {"actions": ["notify"], "pattern": "cake*lie"}
MASTER = "/pushrules/global/override/.m.rule.master"


def synced_rules(answer: JsonObject) -> Any:
    """The `global` ruleset of an answer of /sync, None if it has none."""
    events = answer.get("account_data", {}).get("events", [])
    found = [e["content"]["global"] for e in events if e["type"] == "m.push_rules"]
    assert len(found) < 2
    return found[0] if found else None


async def refusal(call: Any) -> tuple[int, str]:
    with pytest.raises(Refused) as refused:
        await call
    return refused.value.status, refused.value.errcode


async def test_the_defaults_are_served_and_synced(server: RunningServer) -> None:
    alice = await server.user("alice")
    served = await alice.get("/pushrules/")
    assert served["global"]["override"][0]["rule_id"] == ".m.rule.master"
    assert await alice.get("/pushrules/global/") == served["global"]
    assert synced_rules(await alice.sync()) == served["global"]
    assert synced_rules(await alice.sync()) is None


async def test_the_rules_are_account_data_that_only_these_endpoints_change(
    server: RunningServer,
) -> None:
    alice = await server.user("alice")
    await alice.put("/pushrules/global/content/nocake", CAKE)
    path = f"/user/{alice.user_id}/account_data/m.push_rules"
    assert await alice.get(path) == await alice.get("/pushrules/")
    assert (await refusal(alice.put(path, {"global": {}})))[0] == 405


async def test_a_rule_is_put_read_changed_and_deleted(server: RunningServer) -> None:
    alice = await server.user("alice")
    path = "/pushrules/global/content/nocake"
    await alice.put(path, CAKE)
    assert await alice.get(path) == {
        "rule_id": "nocake",
        "default": False,
        "enabled": True,
        "pattern": "cake*lie",
        "actions": ["notify"],
    }
    await alice.put(f"{path}/enabled", {"enabled": False})
    assert await alice.get(f"{path}/enabled") == {"enabled": False}
    await alice.put(f"{path}/actions", {"actions": ["dont_notify"]})
    assert await alice.get(f"{path}/actions") == {"actions": []}
    await alice.delete(path)
    assert await refusal(alice.get(path)) == (404, "M_NOT_FOUND")
    assert await refusal(alice.delete(path)) == (404, "M_NOT_FOUND")


async def test_rules_stand_in_the_order_of_before_and_after(server: RunningServer) -> None:
    alice = await server.user("alice")
    room_ids = [f"!{name}:hs.test" for name in "abc"]
    paths = [f"/pushrules/global/room/{quote(room_id)}" for room_id in room_ids]
    await alice.put(paths[0], {"actions": []})
    await alice.put(paths[1], {"actions": []}, after=room_ids[0])
    await alice.put(paths[2], {"actions": []}, before=room_ids[1])
    rules = (await alice.get("/pushrules/global/"))["room"]
    assert [rule["rule_id"] for rule in rules] == [room_ids[0], room_ids[2], room_ids[1]]
    missing = alice.put(paths[0], {"actions": []}, before="missing")
    assert await refusal(missing) == (400, "M_UNKNOWN")


async def test_a_change_wakes_the_other_device(server: RunningServer) -> None:
    alice = await server.user("alice")
    other = await alice.another_device()
    await other.sync()
    waiting = asyncio.create_task(other.sync(timeout_ms=10_000))
    await asyncio.sleep(0.05)
    await alice.put(f"{MASTER}/enabled", {"enabled": True})
    rules = synced_rules(await waiting)
    assert rules["override"][0] == {
        "rule_id": ".m.rule.master",
        "default": True,
        "enabled": True,
        "conditions": [],
        "actions": [],
    }


async def test_a_change_without_effect_tells_nobody(server: RunningServer) -> None:
    alice = await server.user("alice")
    await alice.sync()
    await alice.put(f"{MASTER}/enabled", {"enabled": False})
    assert synced_rules(await alice.sync()) is None


async def test_taking_everything_back_is_told_too(server: RunningServer) -> None:
    alice = await server.user("alice")
    defaults = await alice.get("/pushrules/global/")
    await alice.put("/pushrules/global/content/nocake", CAKE)
    await alice.sync()
    await alice.delete("/pushrules/global/content/nocake")
    assert synced_rules(await alice.sync()) == defaults
    anew = await alice.another_device()
    assert synced_rules(await anew.sync()) == defaults


async def test_rules_survive_a_restart(server: RunningServer) -> None:
    alice = await server.user("alice")
    await alice.put("/pushrules/global/content/nocake", CAKE)
    before = await alice.get("/pushrules/")
    await alice.sync()
    await server.restart()
    alice = server.moved(alice)
    assert await alice.get("/pushrules/") == before
    assert synced_rules(await alice.sync()) is None
    assert synced_rules(await alice.sync(since="s0")) == before["global"]


async def test_changes_at_the_same_time_are_all_kept(server: RunningServer) -> None:
    alice = await server.user("alice")
    paths = [f"/pushrules/global/content/rule{number}" for number in range(10)]
    await asyncio.gather(*(alice.put(path, CAKE) for path in paths))
    rules = (await alice.get("/pushrules/global/"))["content"]
    assert {rule["rule_id"] for rule in rules} == {f"rule{number}" for number in range(10)}


async def test_everyone_has_rules_of_their_own(server: RunningServer) -> None:
    alice, bob = await server.user("alice"), await server.user("bob")
    await alice.put("/pushrules/global/content/nocake", CAKE)
    assert (await bob.get("/pushrules/global/"))["content"] == []
    invite = await bob.get("/pushrules/global/override/.m.rule.invite_for_me")
    assert invite["conditions"][2]["pattern"] == bob.user_id


async def put_refused(client: Client, path: str, body: Any) -> tuple[int, str]:
    return await refusal(client.put(f"/pushrules/global/{path}", body))


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("nonsense/a", {"actions": []}, (400, "M_INVALID_PARAM")),
        ("override/.a", {"actions": []}, (400, "M_INVALID_PARAM")),
        ("override/a%2Fb", {"actions": []}, (400, "M_INVALID_PARAM")),
        ("override/a", {}, (400, "M_MISSING_PARAM")),
        ("override/a", {"actions": ["shout"]}, (400, "M_INVALID_PARAM")),
        ("override/a", {"actions": [], "conditions": [{}]}, (400, "M_BAD_JSON")),
        ("content/a", {"actions": []}, (400, "M_MISSING_PARAM")),
        ("override/missing/enabled", {"enabled": True}, (404, "M_NOT_FOUND")),
        ("override/.m.rule.master/enabled", {}, (400, "M_MISSING_PARAM")),
        ("override/.m.rule.master/enabled", {"enabled": "yes"}, (400, "M_BAD_JSON")),
        ("override/.m.rule.master/actions", {"actions": 1}, (400, "M_BAD_JSON")),
        ("content/.m.rule.master/actions", {"actions": []}, (404, "M_NOT_FOUND")),
    ],
)
async def test_bad_rules_are_refused(
    server: RunningServer, path: str, body: Any, expected: tuple[int, str]
) -> None:
    alice = await server.user("alice")
    assert await put_refused(alice, path, body) == expected


async def test_rules_have_a_limit(server: RunningServer) -> None:
    alice = await server.user("alice")
    body = {"actions": ["notify", {"set_tweak": "sound", "value": "x" * 100_000}]}
    await alice.put("/pushrules/global/override/a", body)
    assert await put_refused(alice, "override/b", body) == (413, "M_TOO_LARGE")
    await alice.delete("/pushrules/global/override/a")


async def test_a_filter_can_leave_the_rules_out(server: RunningServer) -> None:
    alice = await server.user("alice")
    answer = await alice.sync(filter='{"account_data":{"not_types":["m.push_rules"]}}')
    assert synced_rules(answer) is None
