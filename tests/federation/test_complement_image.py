"""The image for Complement: what its start script makes of what the suite gives it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from homeserver.config import Config
from homeserver.config_file import load_config
from tests.support.certificates import Authority

START = Path(__file__).parents[2] / "docker" / "complement" / "start.sh"
APP_SERVICE = """
id: bridge
url: http://bridge:9000
as_token: as
hs_token: hs
sender_localpart: bridge
namespaces: {users: [{exclusive: true, regex: "@bridge_.*"}]}
"""


@pytest.fixture
def suite(tmp_path: Path, authority: Authority) -> Path:
    """The folder that Complement puts into containers."""
    path = tmp_path / "complement"
    (path / "ca").mkdir(parents=True)
    shutil.copy(authority.ca_file, path / "ca" / "ca.crt")
    shutil.copy(authority.key_file, path / "ca" / "ca.key")
    return path


def started(suite: Path, name: str) -> tuple[Path, Config]:
    """Runs the script, with a `homeserver` that only ends: the script's folder, and its config."""
    programs, own = suite.parent / "programs", suite.parent / "own"
    programs.mkdir(exist_ok=True)
    (programs / "homeserver").write_text("#!/bin/sh\nexit 0\n")
    (programs / "homeserver").chmod(0o755)
    environment = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "SERVER_NAME": name,
        "COMPLEMENT_DIR": str(suite),
        "HOMESERVER_DIR": str(own),
    }
    subprocess.run(["sh", START], env=environment, check=True, timeout=60)
    return own, load_config(own / "config.yaml")


def test_the_certificate_is_of_the_suites_authority(suite: Path) -> None:
    own, config = started(suite, "hs1")
    [federation] = [listener for listener in config.listeners if listener.tls]
    assert federation.port == 8448
    authority = str(suite / "ca" / "ca.crt")
    verify = ["openssl", "verify", "-CAfile", authority, "-verify_hostname", "hs1"]
    done = subprocess.run(
        [*verify, str(own / "tls.crt")], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("count", [0, 2])
def test_the_suites_application_services_are_known(suite: Path, count: int) -> None:
    (suite / "appservice").mkdir()
    for number in range(count):
        text = APP_SERVICE.replace("bridge", f"bridge{number}")
        (suite / "appservice" / f"bridge {number}.yaml").write_text(text)
    _, config = started(suite, "hs2")
    assert config.server_name == "hs2"
    assert len(config.application_services) == count


def test_the_server_is_open_and_may_reach_private_addresses(suite: Path) -> None:
    _, config = started(suite, "hs1")
    _, again = started(suite, "hs1")  # a container may be started again
    assert config == again
    assert config.registration.enabled
    assert not config.registration.requires_token
    assert config.registration.shared_secret == "complement"
    assert not config.rate_limits.enabled
    assert "172.16.0.0/12" in config.outgoing.allowed_private_ranges
    assert not config.push.require_https
    assert config.push.legacy_mentions
