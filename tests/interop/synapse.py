"""A real Synapse on loopback: SQLite, one process, TLS by the tests' authority.

`SYNAPSE_PYTHON` names a Python that has it (`make test-interop` makes one).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import time
import urllib.request
from pathlib import Path

import aiohttp
import yaml

from homeserver.json_types import JsonObject
from tests.support.certificates import Authority
from tests.support.client import Client

START_SECONDS = 90.0
STOP_SECONDS = 15.0
UNLIMITED = {"per_second": 10_000, "burst_count": 10_000}


def synapse_python() -> str | None:
    """The Python with Synapse, if there is one."""
    return os.environ.get("SYNAPSE_PYTHON")


class Synapse:
    """`server_name` is localhost with its federation port, so there is nothing to discover."""

    _names = itertools.count(1)

    def __init__(self, directory: Path, authority: Authority, ports: tuple[int, int]) -> None:
        self.client_port, self.federation_port = ports
        self.server_name = f"localhost:{self.federation_port}"
        self._directory = directory
        self._authority = authority
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.client_port}"

    def start(self) -> None:
        """Starts it, or starts it again on the same data; returns when it answers."""
        config = self._directory / "homeserver.yaml"
        if not config.exists():
            self._directory.mkdir(parents=True, exist_ok=True)
            config.write_text(yaml.safe_dump(self._config()))
            self._run(config, "--generate-keys").wait(START_SECONDS)
        self._process = self._run(config)
        self._until_it_answers(self._process)

    def _run(self, config: Path, *more: str) -> subprocess.Popen[bytes]:
        python = synapse_python()
        assert python is not None
        command = [python, "-m", "synapse.app.homeserver", "--config-path", str(config), *more]
        with (self._directory / "output.log").open("ab") as output:
            return subprocess.Popen(command, stdout=output, stderr=output, cwd=self._directory)

    def _until_it_answers(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise RuntimeError((self._directory / "output.log").read_text()[-3000:])
            with contextlib.suppress(OSError):
                urllib.request.urlopen(self.url + "/_matrix/client/versions", timeout=5).close()
                return
            time.sleep(0.1)
        raise TimeoutError("Synapse does not start")

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process = None

    def kill(self) -> None:
        """As a crash would: SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(STOP_SECONDS)
        self._process = None

    async def user(self, http: aiohttp.ClientSession) -> Client:
        """A client with a new account."""
        return await Client(http, self.url).register(f"sam{next(self._names)}")

    def _config(self) -> JsonObject:
        certificate, key = self._authority.certificate("localhost")
        listeners = [
            {
                "port": self.client_port,
                "type": "http",
                "bind_addresses": ["127.0.0.1"],
                "resources": [{"names": ["client"]}],
            },
            {
                "port": self.federation_port,
                "type": "http",
                "tls": True,
                "bind_addresses": ["127.0.0.1"],
                "resources": [{"names": ["federation", "media"]}],
            },
        ]
        limits = ["message", "registration", "joins_per_room", "3pid_validation", "admin_redaction"]
        return {
            "server_name": self.server_name,
            "listeners": listeners,
            "tls_certificate_path": str(certificate),
            "tls_private_key_path": str(key),
            "federation_custom_ca_list": [str(self._authority.ca_file)],
            "federation_ip_range_blacklist": [],
            "ip_range_blacklist": [],
            "database": {"name": "sqlite3", "args": {"database": str(self._directory / "db")}},
            "signing_key_path": str(self._directory / "signing.key"),
            "media_store_path": str(self._directory / "media"),
            "pid_file": str(self._directory / "pid"),
            "macaroon_secret_key": "interop",
            "form_secret": "interop",
            "report_stats": False,
            "enable_registration": True,
            "enable_registration_without_verification": True,
            "trusted_key_servers": [],
            "suppress_key_server_warning": True,
            "presence": {"enabled": True},
            "allow_public_rooms_over_federation": True,
            "room_list_publication_rules": [{"action": "allow"}],
            "bcrypt_rounds": 4,
            "federation": {
                "client_timeout": "10s",
                "max_short_retry_delay": "1s",
                "max_long_retry_delay": "1s",
                "max_short_retries": 1,
                "max_long_retries": 1,
                "destination_min_retry_interval": "1s",
                "destination_max_retry_interval": "2s",
            },
            **{f"rc_{name}": UNLIMITED for name in limits},
            "rc_login": dict.fromkeys(("address", "account", "failed_attempts"), UNLIMITED),
            "rc_joins": dict.fromkeys(("local", "remote"), UNLIMITED),
            "rc_invites": dict.fromkeys(("per_room", "per_user", "per_issuer"), UNLIMITED),
            "rc_federation": {"sleep_limit": 100_000, "reject_limit": 100_000},
        }
