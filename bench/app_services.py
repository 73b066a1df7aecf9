"""10,000 events to 20 application services: what serving them costs beside sending the events.

`python -m bench.app_services`
"""

from __future__ import annotations

import asyncio
import time

import uvloop
import yaml
from aiohttp import web

from bench.people import User, new_users
from bench.server import Server

EVENTS = 10_000
SERVICES = 20
SENDERS = 10
PATIENCE_SECONDS = 300.0


class Receiver:
    """All the services in one: counts what it gets."""

    def __init__(self) -> None:
        self.events = 0
        self.transactions = 0
        self.port = 0
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_put("/{service}/_matrix/app/v1/transactions/{txn}", self._take)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.events += body.count(b'"room_id":')
        self.transactions += 1
        return web.json_response({})


def registration(number: int, port: int) -> str:
    """One that is interested in every room."""
    return yaml.safe_dump(
        {
            "id": f"s{number}",
            "url": f"http://127.0.0.1:{port}/s{number}",
            "as_token": f"as{number}",
            "hs_token": f"hs{number}",
            "sender_localpart": f"bot{number}",
            "namespaces": {"rooms": [{"exclusive": False, "regex": "!.*"}]},
        }
    )


async def measure(services: int) -> tuple[float, float]:
    """CPU seconds of the server and of PostgreSQL for all events, until the services have them."""
    receiver, server = Receiver(), Server()
    await receiver.start()
    paths = []
    for number in range(services):
        path = server.directory / f"s{number}.yaml"
        path.write_text(registration(number, receiver.port))
        paths.append(str(path))
    server.configure(application_services=paths)
    await server.start()
    try:
        users = await new_users(server, SENDERS)
        rooms = [await user.create_room("x") for user in users]
        expected = await _settled(receiver) + EVENTS * services
        before = server.cpu(), server.postgres_cpu()
        await asyncio.gather(*(_send(u, r) for u, r in zip(users, rooms, strict=True)))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while receiver.events < expected:  # noqa: ASYNC110 - another process writes it
                await asyncio.sleep(0.05)
        cpu = server.cpu() - before[0], server.postgres_cpu() - before[1]
        print(f"{services} services: {receiver.transactions} transactions")
        return cpu
    finally:
        await server.stop()
        await receiver.stop()
        server.remove()


async def _settled(receiver: Receiver) -> int:
    """What it got so far, once nothing comes any more."""
    while True:
        got = receiver.events
        await asyncio.sleep(1.0)
        if receiver.events == got:
            return got


async def _send(user: User, room_id: str) -> None:
    for number in range(EVENTS // SENDERS):
        await user.send(room_id, f"message {number}")


async def main() -> None:
    started = time.perf_counter()
    without = await measure(0)
    with_services = await measure(SERVICES)
    server, postgres = (b - a for a, b in zip(without, with_services, strict=True))
    deliveries = EVENTS * SERVICES
    print(f"sending alone: {without[0]:.2f} + {without[1]:.2f} CPU s (server + PostgreSQL)")
    print(f"serving {SERVICES} services: {server:.2f} + {postgres:.2f} CPU s more")
    print(f"{EVENTS / (server + postgres):,.0f} events per CPU second to all of them")
    print(f"{deliveries / (server + postgres):,.0f} deliveries per CPU second")
    print(f"({time.perf_counter() - started:.0f} s)")


if __name__ == "__main__":
    uvloop.run(main())
