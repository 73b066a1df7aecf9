"""Starts the three servers in one process, each with its own PostgreSQL, and says where they are.

Everything is in `demo-data` (or the directory given as the argument); delete it to begin anew.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path

from homeserver.app import running
from homeserver.config import Config
from homeserver.config_file import decode_config
from homeserver.logs import configure_logging
from tests.support.certificates import Authority

CLIENT_PORTS = (8481, 8482, 8483)
FEDERATION_PORTS = (8491, 8492, 8493)


def configs(directory: Path) -> list[Config]:
    """Three servers that trust one authority; their names have a port, so nothing is looked up."""
    authority = Authority(directory)
    certificate, key = authority.certificate("localhost")
    found = []
    for client_port, port in zip(CLIENT_PORTS, FEDERATION_PORTS, strict=True):
        tls = {"certificate": str(certificate), "private_key": str(key)}
        values = {
            "server_name": f"localhost:{port}",
            "public_baseurl": f"http://localhost:{client_port}",
            "data_dir": str(directory / f"server-{port}"),
            "listeners": [
                {"port": client_port, "resources": ["client"]},
                {"port": port, "resources": ["federation"], "tls": tls},
            ],
            "registration": {"enabled": True, "requires_token": False},
            "rate_limits": {"enabled": False},
            "outgoing": {
                "ca_file": str(authority.ca_file),
                "allowed_private_ranges": ["127.0.0.0/8", "::1/128"],
            },
            "logging": {"level": "warning"},
        }
        found.append(decode_config(values, directory, {}))
    return found


async def run(directory: Path) -> None:
    """Until interrupted."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    servers = configs(directory)
    configure_logging(servers[0].logging)
    async with AsyncExitStack() as stack:
        for config in servers:
            server = await stack.enter_async_context(running(config))
            print(f"{config.server_name}: clients connect to {server.urls[0]}", flush=True)
        print("Registration is open. Ctrl+C ends all three.", flush=True)
        await stop.wait()
        print("Ending ...", flush=True)


def main() -> None:
    directory = Path(sys.argv[1] if len(sys.argv) > 1 else "demo-data").absolute()
    directory.mkdir(parents=True, exist_ok=True)
    asyncio.run(run(directory))


main()
