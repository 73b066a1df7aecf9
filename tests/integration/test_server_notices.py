"""What the server tells its users, and that they can't refuse to hear it."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from tests.conftest import StartServer
from tests.support.client import Client, bodies, refusal, timeline
from tests.support.server import RunningServer

PATH = "/_synapse/admin/v1/send_server_notice"
NOTICE = {"msgtype": "m.text", "body": "The server rests on Sunday"}


async def admin_of(server: RunningServer) -> Client:
    admin = await server.user("root")
    assert server.app is not None
    async with server.app.database.connection() as connection:
        await connection.execute("UPDATE accounts SET is_admin = true")
    return await admin.another_device()


async def notified(start: StartServer) -> tuple[RunningServer, Client, Client, str]:
    server = await start(server_notices={"localpart": "notices"})
    admin = await admin_of(server)
    alice = await server.user("alice")
    await admin.post(PATH, {"user_id": alice.user_id, "content": NOTICE})
    (room_id,) = (await alice.sync())["rooms"]["invite"]
    return server, admin, alice, str(room_id)


async def test_a_notice_comes_in_a_room_of_its_own(start_server: StartServer) -> None:
    _, admin, alice, room_id = await notified(start_server)
    tags = await alice.get(f"/user/{alice.user_id}/rooms/{quote(room_id)}/tags")
    assert "m.server_notice" in tags["tags"]
    await alice.join(room_id)
    await admin.post(PATH, {"user_id": alice.user_id, "content": {**NOTICE, "body": "again"}})
    answer: Any = await alice.sync()
    assert bodies(timeline(answer, room_id))[-1] == "again"
    assert (await refusal(alice.send(room_id, "No!"))).errcode == "M_FORBIDDEN"


async def test_it_can_not_be_refused_but_left(start_server: StartServer) -> None:
    _, _, alice, room_id = await notified(start_server)
    refused = await refusal(alice.leave(room_id))
    assert (refused.status, refused.errcode) == (403, "M_CANNOT_LEAVE_SERVER_NOTICE_ROOM")
    await alice.join(room_id)
    await alice.leave(room_id)


async def test_a_repeated_notice_is_sent_once(start_server: StartServer) -> None:
    server, admin, alice, _ = await notified(start_server)
    body = {"user_id": alice.user_id, "content": NOTICE}
    first = await admin.put(f"{PATH}/t1", body)
    assert await admin.put(f"{PATH}/t1", body) == first
    await server.restart()
    assert await server.moved(admin).put(f"{PATH}/t1", body) == first


async def test_who_may_not_send_notices(start_server: StartServer) -> None:
    _, admin, alice, _ = await notified(start_server)
    body = {"user_id": alice.user_id, "content": NOTICE}
    assert (await refusal(alice.post(PATH, body))).status == 403
    nobody = {"user_id": "@nobody:hs.test", "content": NOTICE}
    assert (await refusal(admin.post(PATH, nobody))).status == 404
