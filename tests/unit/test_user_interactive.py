"""Flows of several stages: client-server-api#user-interactive-authentication-api."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from homeserver.errors import Forbidden, UnknownError
from homeserver.json_types import JsonObject
from homeserver.services.user_interactive import (
    LIFETIME_MS,
    AuthenticationNeeded,
    Dummy,
    Operation,
    Stage,
    UserInteractive,
)

FLOWS = [["org.terms", "org.secret"], ["org.terms", "m.login.dummy"]]
OPERATION = Operation("POST /x", "@alice:hs")


class Clock:
    now = 1_000

    def __call__(self) -> int:
        return self.now


class Terms:
    """A stage with something to know beforehand."""

    def params(self) -> JsonObject | None:
        return {"version": "1"}

    async def check(self, user_id: str | None, auth: JsonObject) -> Any:
        return "agreed"


class Secret:
    """A stage that can fail."""

    def params(self) -> JsonObject | None:
        return None

    async def check(self, user_id: str | None, auth: JsonObject) -> Any:
        if auth.get("secret") != "right":
            raise Forbidden("That is not the secret")
        return user_id


class Client:
    """Calls one operation again and again, in one session."""

    def __init__(self) -> None:
        self.clock = Clock()
        stages: dict[str, Stage] = {
            "org.terms": Terms(),
            "org.secret": Secret(),
            "m.login.dummy": Dummy(),
        }
        self.uia = UserInteractive(stages, self.clock)
        self.session = ""

    async def call(self, auth: JsonObject | None) -> Mapping[str, Any]:
        async def action(results: Mapping[str, Any]) -> Mapping[str, Any]:
            return dict(results)

        return await self.uia.run(OPERATION, auth, FLOWS, action)

    async def begin(self) -> JsonObject:
        body = (await self.needed(None)).body()
        self.session = body["session"]
        return body

    async def needed(self, auth: JsonObject | None) -> AuthenticationNeeded:
        with pytest.raises(AuthenticationNeeded) as needed:
            await self.call(auth)
        return needed.value

    def stage(self, stage: str, **more: Any) -> JsonObject:
        return {"type": stage, "session": self.session, **more}


async def test_the_first_answer_tells_flows_and_params() -> None:
    body = await Client().begin()
    assert body["flows"] == [{"stages": flow} for flow in FLOWS]
    assert body["params"] == {"org.terms": {"version": "1"}}
    assert not body.keys() & {"completed", "errcode", "error"}


async def test_stages_are_completed_one_after_the_other() -> None:
    client = Client()
    await client.begin()
    needed = await client.needed(client.stage("org.terms"))
    assert needed.body()["completed"] == ["org.terms"]
    assert "errcode" not in needed.body()
    results = await client.call(client.stage("org.secret", secret="right"))
    assert results == {"org.terms": "agreed", "org.secret": "@alice:hs"}


async def test_a_stage_out_of_order_is_refused() -> None:
    client = Client()
    await client.begin()
    needed = await client.needed(client.stage("org.secret", secret="right"))
    assert (needed.status, needed.body()["errcode"]) == (401, "M_FORBIDDEN")
    assert "completed" not in needed.body()


async def test_a_failed_stage_keeps_what_is_completed() -> None:
    client = Client()
    await client.begin()
    await client.needed(client.stage("org.terms"))
    needed = await client.needed(client.stage("org.secret", secret="wrong"))
    assert needed.body()["completed"] == ["org.terms"]
    assert needed.body()["error"] == "That is not the secret"
    assert await client.call(client.stage("m.login.dummy"))


async def test_a_stage_passed_elsewhere_counts() -> None:
    client = Client()
    await client.begin()
    await client.uia.attempt(client.session, {"type": "org.terms"})
    await client.uia.attempt(client.session, {"type": "m.login.dummy"})
    assert await client.call({"session": client.session})


async def test_repeating_a_completed_stage_changes_nothing() -> None:
    client = Client()
    await client.begin()
    for _ in range(2):
        needed = await client.needed(client.stage("org.terms"))
        assert needed.body()["completed"] == ["org.terms"]


async def test_a_session_expires() -> None:
    client = Client()
    await client.begin()
    client.clock.now += LIFETIME_MS
    with pytest.raises(UnknownError):
        await client.call(client.stage("org.terms"))


async def test_an_action_that_fails_can_be_tried_again() -> None:
    client = Client()
    await client.begin()
    await client.needed(client.stage("org.terms"))

    async def fails(_: Mapping[str, Any]) -> None:
        raise Forbidden("Not now")

    with pytest.raises(Forbidden):
        await client.uia.run(OPERATION, client.stage("m.login.dummy"), FLOWS, fails)
    assert await client.call({"session": client.session})
