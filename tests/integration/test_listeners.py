"""Several listeners, each with its own address, TLS and resources; what stops one is told."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import aiohttp
import msgspec
import pytest

from tests.support.certificates import Authority
from tests.support.process import command
from tests.support.server import RunningServer, settings

VERSIONS = "/_matrix/client/versions"


async def test_a_listener_speaks_tls(database_url: str, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.certificate("127.0.0.1")
    tls = {"certificate": str(certificate), "private_key": key.name}  # relative: to the config
    listeners = [
        {"port": 0, "resources": ["client"]},
        {"port": 0, "resources": ["client"], "tls": tls},
    ]
    server = RunningServer(settings(database_url, listeners=listeners), tmp_path)
    await server.start()
    assert server.app is not None
    plain, secure = server.app.urls
    assert (plain[:7], secure[:8]) == ("http://", "https://")
    trust = ssl.create_default_context(cafile=authority.ca_file)
    async with aiohttp.ClientSession() as http:
        for url, context in ((plain, True), (secure, trust)):
            async with http.get(url + VERSIONS, ssl=context) as answer:
                assert answer.status == 200
    await server.stop()


@pytest.mark.parametrize("kind", ["taken port", "foreign address", "no certificate", "no key"])
async def test_what_keeps_a_listener_from_starting_is_told(
    kind: str, database_url: str, tmp_path: Path
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        (tmp_path / "empty.pem").touch()
        tls = {"certificate": "missing.pem", "private_key": "missing.pem"}
        if kind == "no key":
            tls = {"certificate": "empty.pem", "private_key": "empty.pem"}
        listener, told = {
            "taken port": ({"port": taken.getsockname()[1]}, "Address already in use"),
            "foreign address": ({"port": 0, "address": "203.0.113.1"}, "203.0.113.1"),
            "no certificate": ({"port": 0, "tls": tls}, "missing.pem"),
            "no key": ({"port": 0, "tls": tls}, "empty.pem"),
        }[kind]
        file = tmp_path / "config.json"
        file.write_bytes(msgspec.json.encode(settings(database_url, listeners=[listener])))
        done = command("run", "--config", str(file))
    assert done.returncode == 1
    assert told in done.stderr
    assert "Traceback" not in done.stderr
