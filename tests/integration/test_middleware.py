"""Answers at the edges: a handler that fails, a streamed body, old and closing connections."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import cast

import aiohttp
import pytest
import structlog
from aiohttp.web import BaseRequest, StreamResponse

from homeserver.config import Config, Listener
from homeserver.errors import Unavailable
from homeserver.http.answer import BytesAnswer
from homeserver.http.authentication import Authentication, CheckOrigin
from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints
from homeserver.http.listeners import Listeners
from homeserver.http.metrics import Metrics
from homeserver.http.middleware import Doors
from homeserver.http.parts import Parts
from homeserver.http.rate_limits import RateLimits
from homeserver.json_types import JsonObject
from homeserver.requester import Requester
from tests.support.client import until

endpoints = Endpoints(prefix="", versions=())


@endpoints.get("/fails", auth=Auth.NONE)
async def fails(call: Call) -> JsonObject:
    """a bug"""
    raise RuntimeError("the secret detail")


@endpoints.get("/outage", auth=Auth.NONE)
async def outage(call: Call) -> JsonObject:
    """no database"""
    raise Unavailable("Later")


@endpoints.get("/streams", auth=Auth.NONE)
async def streams(call: Call) -> StreamResponse:
    """a body in pieces"""
    response = StreamResponse()
    await response.prepare(call.request)
    await response.write(b"one ")
    await response.write(b"two")
    return response


@endpoints.post("/unread", auth=Auth.NONE)
async def unread(call: Call) -> JsonObject:
    """leaves its body to itself"""
    return {"size": len(await call.request.content.read())}


@endpoints.get("/ready", auth=Auth.NONE)
async def ready(call: Call) -> bytes:
    """ready JSON"""
    return b'{"ready":true}'


LARGE = b'{"large":"%b"}' % (b"x" * 300_000)


@endpoints.get("/large", auth=Auth.NONE)
async def large(call: Call) -> bytes:
    """much ready JSON"""
    return LARGE


@endpoints.get("/whole", auth=Auth.NONE)
async def whole(call: Call) -> StreamResponse:
    """a file that is in memory"""
    return BytesAnswer(body=LARGE)


class _NobodyIsLoggedIn:
    def known_requester(self, token: str) -> Requester | None:
        raise AssertionError("these routes take no token")

    async def find_requester(self, token: str) -> Requester:
        raise AssertionError("these routes take no token")


async def nobody_signs(request: BaseRequest, address: str) -> CheckOrigin:
    raise AssertionError("these routes take no signature")


async def no_app_service(token: str, user_id: str | None, device_id: str | None) -> None:
    """No token here is an application service's."""


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """Where the routes above are served, by the doors that serve every route."""
    config = Config(server_name="hs.test", listeners=(Listener(port=0),))
    rate_limits, metrics = RateLimits(config.rate_limits), Metrics()
    authentication = Authentication(
        _NobodyIsLoggedIn(), no_app_service, lambda *_: None, query_tokens=False
    )
    no_parts = cast(Parts, None)  # these routes use none
    doors = Doors(no_parts, authentication, nobody_signs, rate_limits, metrics)
    listeners = Listeners(config, doors, [endpoints])
    await listeners.start()
    yield listeners.urls()[0]
    await listeners.close()
    await listeners.finish()


async def answer(url: str, method: str = "GET") -> tuple[aiohttp.ClientResponse, str]:
    async with aiohttp.ClientSession() as http, http.request(method, url) as response:
        return response, await response.text()


async def forgotten(references: int) -> bool:
    """Whether nobody but who had it before refers to the large body."""
    return sys.getrefcount(LARGE) <= references


async def raw_answer(url: str, request: str) -> str:
    """What comes back over a plain connection until the server closes it."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request.replace("\n", "\r\n").encode())
    async with asyncio.timeout(10):
        received = await reader.read()
    writer.close()
    await writer.wait_closed()
    return received.decode()


async def test_a_bug_is_logged_and_shows_no_detail(url: str) -> None:
    with structlog.testing.capture_logs() as lines:
        response, text = await answer(url + "/fails")
    assert response.status == 500
    assert '"errcode":"M_UNKNOWN"' in text
    assert "secret" not in text
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    [line] = lines
    assert (line["event"], line["route"]) == ("request failed", "/fails")
    assert str(line["exc_info"]) == "the secret detail"


async def test_an_outage_is_told_as_such(url: str) -> None:
    response, text = await answer(url + "/outage")
    assert (response.status, "M_UNKNOWN" in text) == (503, True)


async def test_a_streamed_answer_has_cors_headers_too(url: str) -> None:
    response, text = await answer(url + "/streams")
    assert text == "one two"
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert response.headers["Cache-Control"] == "no-store"


async def test_a_handler_may_read_its_body_itself(url: str) -> None:
    async with (
        aiohttp.ClientSession() as http,
        http.post(url + "/unread", data=b"\xff" * 10) as response,
    ):
        assert await response.json() == {"size": 10}


async def test_ready_json_is_sent_as_it_is(url: str) -> None:
    response, text = await answer(url + "/ready")
    assert (response.headers["Content-Type"], text) == ("application/json", '{"ready":true}')
    assert response.headers["Date"].endswith("GMT")


@pytest.mark.parametrize("path", ["/large", "/whole"])
async def test_an_idle_connection_does_not_keep_its_last_answer(url: str, path: str) -> None:
    references = sys.getrefcount(LARGE)
    async with aiohttp.ClientSession() as http, http.get(url + path) as response:
        assert await response.read() == LARGE
        await until(lambda: forgotten(references))


async def test_a_client_that_closes_is_told_so(url: str) -> None:
    received = await raw_answer(url, "GET /ready HTTP/1.1\nHost: x\nConnection: close\n\n")
    head, _, body = received.partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 200 OK\r\n")
    assert "Connection: close" in head
    assert body == '{"ready":true}'


async def test_an_old_client_is_served(url: str) -> None:
    received = await raw_answer(url, "GET /ready HTTP/1.0\n\n")
    assert received.endswith('\r\n\r\n{"ready":true}')


async def test_pipelined_requests_are_answered_in_order(url: str) -> None:
    requests = "GET /ready HTTP/1.1\nHost: x\n\nHEAD /ready HTTP/1.1\nHost: x\n\n"
    received = await raw_answer(
        url, requests + "GET /nowhere HTTP/1.1\nHost: x\nConnection: close\n\n"
    )
    statuses = [line for line in received.split("\r\n") if "HTTP/1.1" in line]
    assert [status.rpartition("HTTP/1.1 ")[2] for status in statuses] == [
        "200 OK",
        "200 OK",
        "404 Not Found",
    ]
    assert received.count('{"ready":true}') == 1


async def test_a_broken_request_is_refused(url: str) -> None:
    assert (await raw_answer(url, "NONSENSE\n\n")).startswith("HTTP/1.0 400 ")
