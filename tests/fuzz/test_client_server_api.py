"""Every operation of the specification, asked in many ways: no 5xx, and answers as specified.

`make fuzz` asks more often; FUZZ_SEED repeats a run, FUZZ_ONLY is a part of the paths to try.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass
from itertools import count
from random import Random
from typing import Any

import pytest
from aiohttp import ClientSession
from yarl import URL

from tests.conftest import StartServer
from tests.fuzz.generator import Generator, Request, World
from tests.support import specification
from tests.support.client import Client
from tests.support.server import RunningServer

PARTS = 2
NUMBERS = count(1000)
CASES = int(os.environ.get("FUZZ_CASES", "4"))
SEED = int(os.environ.get("FUZZ_SEED", "1"))
ONLY = os.environ.get("FUZZ_ONLY", "")
API = specification.api()
OPERATIONS = [operation for operation in API["operations"] if ONLY in operation["path"]]
FAR = frozenset((502, 504))
"""Another server doesn't answer, or a file is not there yet."""
WORLD_FOR = 6
"""So many operations share a user and their rooms."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    kind: str
    body: bytes


async def populated(server: RunningServer, owner: Client, number: int) -> tuple[Client, World]:
    """A user of their own for an operation, in rooms where something has happened."""
    user = await server.user(f"fuzz{number}")
    room_id = await user.create_room(preset="public_chat", name="room", topic="topic")
    space = await user.create_room(creation_content={"type": "m.space"}, room_version="11")
    await user.set_state(space, "m.space.child", {"via": ["hs.test"]}, room_id)
    event_id = await user.send(room_id, "hello")
    relation = {"rel_type": "m.thread", "event_id": event_id}
    reply = {"msgtype": "m.text", "body": "re", "m.relates_to": relation}
    answer = await user.send(room_id, reply)
    alias = f"#fuzz{number}:hs.test"
    await user.put(f"/directory/room/%23fuzz{number}:hs.test", {"room_id": room_id})
    since = (await user.sync())["next_batch"]
    place = (await user.messages(room_id, limit="1"))["end"]
    users = [user.user_id, user.user_id, owner.user_id, "@nobody:hs.test", "@far:other.test"]
    rooms = [room_id, room_id, space, "!nowhere:hs.test", "!far:other.test"]
    events = [event_id, event_id, answer, "$nothing"]
    aliases = [alias, "#nothing:hs.test", "#far:other.test"]
    types = ["m.room.message", "m.room.name", "m.room.member", "m.room.power_levels", "org.x"]
    places = [since, place, "s1", "t0", "s999999999999"]
    values: dict[str, list[str]] = {
        "user_id": users,
        "userId": users,
        "mx-user-id": users,
        "userid": users,
        "user": users,
        "room_id": rooms,
        "roomId": rooms,
        "mx-room-id": rooms,
        "event_id": events,
        "eventId": events,
        "mx-event-id": events,
        "roomAlias": aliases,
        "mx-room-alias": aliases,
        "alias": aliases,
        "roomIdOrAlias": [*rooms, *aliases],
        "room_alias_name": [f"new{number}", "a:b", "x y"],
        "eventType": types,
        "stateKey": ["", user.user_id, "key"],
        "deviceId": [user.device_id, "NOTHING"],
        "device_id": [user.device_id, "NOTHING"],
        "serverName": ["hs.test", "other.test"],
        "mx-server-name": ["hs.test", "other.test"],
        "server": ["hs.test", "other.test"],
        "via": ["hs.test", "other.test"],
        "url": ["http://127.0.0.1:1/"],
        "uri": ["http://127.0.0.1:1/"],
        "mx-mxc-uri": ["mxc://hs.test/nothing"],
        "from": places,
        "to": places,
        "since": places,
        "at": places,
        "keyName": ["displayname", "avatar_url", "m.tz", "org.example.x"],
        "kind": ["override", "underride", "sender", "room", "content"],
        "ruleId": [".m.rule.master", ".m.rule.call", "mine", room_id],
        "relType": ["m.thread", "m.annotation", "m.replace"],
        "receiptType": ["m.read", "m.read.private", "m.fully_read"],
        "type": ["m.direct", "m.ignored_user_list", "m.push_rules", "org.x", "m.room.message"],
        "tag": ["m.favourite", "u.x"],
        "txnId": ["1", "2", "3"],
        "timeout": ["0", "10", "-1", "x", ""],
        "timeout_ms": ["0", "10", "-1", "x", ""],
        "filter": ["0", "1", "{}", '{"room":{"timeline":{"limit":1}}}', "{"],
        "new_version": ["11", "12", "1", "999"],
        "room_version": ["11", "12", "1", "999"],
        "username": [f"another{number}", f"fuzz{number}"],
        "password": ["correct horse", "x"],
        "id_server": ["other.test"],
    }
    return user, World(values)


async def ask(http: ClientSession, user: Client, request: Request) -> Answer:
    url = URL(user.url + request.path, encoded=True).update_query(request.query)
    headers = {"Authorization": f"Bearer {user.token}", "Content-Type": "application/json"}
    async with http.request(
        request.method, url, data=request.body, headers=headers, allow_redirects=False
    ) as response:
        return Answer(response.status, response.content_type, await response.read())


def _form(operation: int, answer: Answer) -> str | None:
    asked = OPERATIONS[operation]
    if str(answer.status) not in asked["answers"]:
        return None
    try:
        body = json.loads(answer.body)
    except ValueError:
        return f"not JSON: {answer.kind}"
    found = specification.Operation(asked["method"], asked["path"])
    return specification.problem(found, answer.status, body)


def problem(operation: int, answer: Answer) -> str | None:
    """What is wrong with an answer."""
    if answer.status >= 500 and answer.status not in FAR:
        return f"status {answer.status}"
    if answer.status in (200, 201):
        return _form(operation, answer)
    if answer.status < 400:
        return None
    try:
        body = json.loads(answer.body)
    except ValueError:
        return f"{answer.status} is not JSON"
    if answer.status == 401 and "flows" in body:
        return None
    if not isinstance(body.get("errcode"), str) or not isinstance(body.get("error"), str):
        return f"{answer.status} without errcode and error"
    return None


SETTINGS: dict[str, Any] = {
    "federation": {"resolve": {"other.test": "127.0.0.1:1"}},
    "public_baseurl": "https://matrix.hs.test",
    "oauth": {"enabled": True},
    "voip": {"turn_uris": ["turn:turn.test"], "turn_shared_secret": "x"},
}


@pytest.mark.parametrize("part", range(PARTS))
async def test_every_operation_answers_as_specified(start_server: StartServer, part: int) -> None:
    server = await start_server(**SETTINGS)
    owner = await server.user("owner")
    problems: list[str] = []
    statuses: Counter[int] = Counter()
    async with ClientSession() as http:
        for turn, number in enumerate(range(part, len(OPERATIONS), PARTS)):
            if turn % WORLD_FOR == 0:
                user, world = await populated(server, owner, number)
            operation = OPERATIONS[number]
            name = f"{SEED} {operation['method']} {operation['path']}"
            generator = Generator(Random(name), API["$defs"], world)
            for _ in range(CASES):
                request = generator.request(operation)
                answer = await ask(http, user, request)
                statuses[answer.status] += 1
                wrong = problem(number, answer)
                if wrong is not None:
                    problems.append(f"{request}\n  {wrong[:600]}\n  {answer.body[:300]!r}")
                if answer.status == 401:
                    user, world = await populated(server, owner, next(NUMBERS))
                    generator = Generator(Random(name), API["$defs"], world)
    print(f"{sum(statuses.values())} requests: {dict(sorted(statuses.items()))}")
    assert not problems, f"{len(problems)} problems, seed {SEED}\n" + "\n".join(problems[:25])
