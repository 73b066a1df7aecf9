"""What holds for every request: errors, CORS, sizes, limits, metrics."""

from __future__ import annotations

import asyncio
import gzip
import io
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from homeserver.http import answer as answers
from tests.support.client import refusal, until
from tests.support.server import RunningServer, settings

V3 = "/_matrix/client/v3"
CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "GET, HEAD, POST, PUT, DELETE, OPTIONS",
    "Access-Control-Allow-Headers": "X-Requested-With, Content-Type, Authorization",
}


async def raw(
    server: RunningServer, method: str, path: str, **options: Any
) -> tuple[aiohttp.ClientResponse, bytes]:
    """The response and its body, without a look at either."""
    http = server.anonymous().http
    async with asyncio.timeout(15), http.request(method, server.url + path, **options) as response:
        return response, await response.read()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/_matrix/client/versions", 200),
        ("GET", V3 + "/nowhere", 404),
        ("GET", "/_matrix/nowhere", 404),
        ("PATCH", V3 + "/login", 405),
        ("GET", V3 + "/account/whoami", 401),
        ("GET", "/health", 200),
        ("GET", "/", 200),
        ("OPTIONS", V3 + "/login", 204),
        ("OPTIONS", V3 + "/nowhere", 204),
        ("HEAD", V3 + "/login", 200),
    ],
)
async def test_every_answer_has_cors_headers(
    server: RunningServer, method: str, path: str, status: int
) -> None:
    response, _ = await raw(server, method, path)
    assert response.status == status
    assert {name: response.headers[name] for name in CORS} == CORS
    assert response.headers["Cache-Control"] == "no-store"


async def test_a_client_that_never_reads_its_answers_is_disconnected(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(answers, "SLOWEST_BYTES_PER_SECOND", 10**9)
    where = urlsplit(server.url)
    loop = asyncio.get_running_loop()
    with socket.socket() as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.setblocking(False)
        await loop.sock_connect(reader, (where.hostname, where.port))
        requests = b"GET /_matrix/client/versions HTTP/1.1\r\nHost: x\r\n\r\n" * 100
        with pytest.raises(ConnectionError):
            async with asyncio.timeout(30):
                while True:
                    await loop.sock_sendall(reader, requests)


async def test_who_is_gone_before_the_body_is_complete_is_no_error_of_ours(
    server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    where = urlsplit(server.url)
    _, writer = await asyncio.open_connection(where.hostname, where.port)
    path = "/_matrix/client/v3/login"
    writer.write(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf".encode())
    await writer.drain()

    async def open_requests() -> int:
        _, body = await raw(server, "GET", "/metrics")
        [line] = [x for x in body.splitlines() if x.startswith(b"homeserver_http_open_requests ")]
        return int(float(line.split()[1])) - 1  # this one

    async def is_in_work() -> bool:
        return await open_requests() == 1

    async def is_over() -> bool:
        return await open_requests() == 0

    await until(is_in_work)
    writer.transport.abort()
    await until(is_over)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_a_wrong_method_is_unrecognized(server: RunningServer) -> None:
    response, body = await raw(server, "DELETE", V3 + "/login")
    assert response.status == 405
    assert b'"errcode":"M_UNRECOGNIZED"' in body
    assert response.headers["Allow"] == "GET, OPTIONS, POST"


async def test_head_is_answered_without_a_body(server: RunningServer) -> None:
    _, body = await raw(server, "GET", V3 + "/login")
    response, nothing = await raw(server, "HEAD", V3 + "/login")
    assert (response.headers["Content-Length"], nothing) == (str(len(body)), b"")


@pytest.mark.parametrize(
    ("body", "errcode"),
    [
        (b"", "M_NOT_JSON"),
        (b"{", "M_NOT_JSON"),
        (b'{"user": "\xff"}', "M_NOT_JSON"),
        (rb'{"user": "\ud800"}', "M_NOT_JSON"),
        (b"[]", "M_BAD_JSON"),
        (b'{"type": [' + b"[" * 200 + b"]" * 200 + b"]}", "M_BAD_JSON"),
        (b'{"type": ' + b"[" * 100_000, "M_BAD_JSON"),
    ],
)
async def test_a_bad_body_is_refused(server: RunningServer, body: bytes, errcode: str) -> None:
    refused = await refusal(server.anonymous().request("POST", "/login", data=body))
    assert (refused.status, refused.errcode) == (400, errcode)


async def test_what_the_body_itself_lacks_is_missing(server: RunningServer) -> None:
    """Within an object of it, something lacking is a wrong form."""
    alice = await server.user("alice")
    bodies: list[tuple[Any, str]] = [
        ({}, "M_MISSING_PARAM"),
        ({"sessions": {"s": {}}}, "M_BAD_JSON"),
    ]
    for body, errcode in bodies:
        refused = await refusal(alice.put("/room_keys/keys/!room:hs.test", body, version="1"))
        assert (refused.status, refused.errcode) == (400, errcode)


async def test_a_huge_body_is_refused(server: RunningServer) -> None:
    body = b'{"type": "' + b"x" * 1_100_000 + b'"}'
    response, answer = await raw(server, "POST", V3 + "/login", data=io.BytesIO(body))
    assert (response.status, b"M_TOO_LARGE" in answer) == (413, True)


async def test_a_huge_body_of_unknown_length_is_refused(server: RunningServer) -> None:
    async def chunks() -> Any:
        for _ in range(20):
            yield b" " * 65_536

    response, body = await raw(server, "POST", V3 + "/login", data=chunks())
    assert (response.status, b"M_TOO_LARGE" in body) == (413, True)


async def test_a_compressed_body_is_limited_by_what_it_holds(server: RunningServer) -> None:
    body = gzip.compress(b'{"type": "' + b"x" * 5_000_000 + b'"}')
    headers = {"Content-Encoding": "gzip"}
    response, answer = await raw(server, "POST", V3 + "/login", data=body, headers=headers)
    assert (response.status, b"M_TOO_LARGE" in answer) == (413, True)


async def test_broken_compression_is_refused(server: RunningServer) -> None:
    headers = {"Content-Encoding": "gzip"}
    response, _ = await raw(server, "POST", V3 + "/login", data=b"no gzip", headers=headers)
    assert response.status == 400


async def test_nul_is_refused_where_the_database_would_take_it(server: RunningServer) -> None:
    alice = await server.user("alice")
    path = f"/devices/{alice.device_id}"
    refused = await refusal(alice.put(path, {"display_name": "a\0b"}))
    assert (refused.status, refused.errcode) == (400, "M_INVALID_PARAM")
    missing = await refusal(alice.get("/devices/a%00b"))
    assert (missing.status, missing.errcode) == (400, "M_INVALID_PARAM")


async def test_a_long_query_string_is_served(server: RunningServer) -> None:
    response, _ = await raw(server, "GET", V3 + "/login?x=" + "y" * 20_000)
    assert response.status == 200


@pytest.mark.parametrize("header", ["Basic abc", "Bearer", "Bearer ", "abc"])
async def test_other_credentials_are_no_token(server: RunningServer, header: str) -> None:
    path = V3 + "/account/whoami"
    response, body = await raw(server, "GET", path, headers={"Authorization": header})
    assert (response.status, b"M_MISSING_TOKEN" in body) == (401, True)


async def test_requests_are_measured_by_route(server: RunningServer) -> None:
    await raw(server, "GET", V3 + "/login")
    await raw(server, "GET", V3 + "/nowhere")
    _, text = await raw(server, "GET", "/metrics")
    route = b'{method="GET",route="/_matrix/client/v3/login"}'
    assert b"homeserver_http_request_seconds_count" + route + b" 1.0" in text
    assert b'homeserver_http_errors_total{errcode="M_UNRECOGNIZED"} 1.0' in text
    assert b"homeserver_event_loop_lag_seconds_bucket" in text
    assert b"process_resident_memory_bytes" in text


async def test_a_listener_serves_only_its_resources(database_url: str, tmp_path: Path) -> None:
    listeners = [{"port": 0, "resources": ["federation"]}, {"port": 0, "resources": ["client"]}]
    server = RunningServer(settings(database_url, listeners=listeners), tmp_path)
    await server.start()
    assert server.app is not None
    http = server.anonymous().http
    statuses = []
    for url in server.app.urls:
        for path in (V3 + "/login", "/metrics", "/health"):
            async with http.get(url + path) as response:
                statuses.append(response.status)
    assert statuses == [404, 404, 200, 200, 404, 200]
    await server.stop()


@pytest.mark.parametrize(("trusted", "address"), [(True, "203.0.113.9"), (False, "127.0.0.1")])
async def test_a_forwarded_address_counts_only_from_a_trusted_proxy(
    database_url: str, tmp_path: Path, trusted: bool, address: str
) -> None:
    listeners = [{"port": 0, "x_forwarded": trusted}]
    server = RunningServer(settings(database_url, listeners=listeners), tmp_path)
    await server.start()
    alice = await server.user("alice")
    headers = {
        "Authorization": f"Bearer {alice.token}",
        "X-Forwarded-For": "198.51.100.1, 203.0.113.9",
    }
    await raw(server, "GET", V3 + "/account/whoami", headers=headers)
    await server.restart()
    path = f"{V3}/devices/{alice.device_id}"
    _, body = await raw(server, "GET", path, headers={"Authorization": headers["Authorization"]})
    assert f'"last_seen_ip":"{address}"'.encode() in body
    await server.stop()


async def test_new_accounts_are_limited_by_address(database_url: str, tmp_path: Path) -> None:
    limits = {"enabled": True, "registration": {"per_second": 0.001, "burst": 2}}
    server = RunningServer(settings(database_url, rate_limits=limits), tmp_path)
    await server.start()
    for name in ("alice", "bob"):
        assert (await refusal(server.anonymous().post("/register"))).status == 401
        await server.user(name)
    refused = await refusal(server.anonymous().register("carol"))
    assert (refused.status, refused.errcode) == (429, "M_LIMIT_EXCEEDED")
    await server.stop()
