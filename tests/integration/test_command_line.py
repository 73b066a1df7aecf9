"""The commands of `homeserver`, run as a person runs them."""

from __future__ import annotations

import re
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import bcrypt
import pytest

from homeserver.config_file import load_config
from homeserver.protocol.signatures import read_signing_key
from homeserver.store.embedded import running_url
from tests.support.client import Refused, timeline
from tests.support.encryption import claim, one_time_keys
from tests.support.process import ServerProcess, command, environment
from tests.support.server import settings


@pytest.fixture
async def process(own_directory: Path) -> AsyncIterator[ServerProcess]:
    """A server with an embedded Postgres, not yet started."""
    server = ServerProcess(settings("embedded"), own_directory)
    yield server
    await server.close()


@pytest.fixture
async def closed(own_directory: Path) -> AsyncIterator[ServerProcess]:
    """The same, where nobody may register."""
    server = ServerProcess(settings("embedded", registration={"enabled": False}), own_directory)
    yield server
    await server.close()


@pytest.mark.parametrize(
    "name",
    [
        "",
        "run",
        "register",
        "after-restore",
        "hash-password",
        "generate-config",
        "generate-signing-key",
        "routes",
    ],
)
def test_help_teaches(name: str) -> None:
    done = command(*name.split(), "--help")
    assert done.returncode == 0
    assert "Usage: homeserver" in done.stdout


def test_the_generated_config_can_be_used(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    done = command("generate-config", "--server-name", "a.example", "-o", str(file))
    assert done.returncode == 0
    assert load_config(file, {}).server_name == "a.example"
    again = command("generate-config", "-o", str(file))
    assert again.returncode == 1
    assert "File exists" in again.stderr


def test_the_generated_signing_key_is_one(tmp_path: Path) -> None:
    file = tmp_path / "signing.key"
    assert command("generate-signing-key", "-o", str(file)).returncode == 0
    key_id, _key = read_signing_key(file.read_text())
    assert key_id.startswith("ed25519:a_")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_hashed_password_can_be_checked() -> None:
    done = command("hash-password", "--rounds", "4", text="correct horse\n")
    assert bcrypt.checkpw(b"correct horse", done.stdout.strip().encode())


def test_routes_are_listed_with_their_section() -> None:
    assert "/health" in command("routes").stdout


def test_a_wrong_config_is_told_in_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("server_name: a.example\nregistraton: {}\n")
    done = command("run", "--config", str(file))
    assert done.returncode == 1
    assert "unknown key `registraton` (did you mean `registration`?)" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unreachable_database_is_told_in_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("server_name: a.example\ndatabase: postgresql://x:hidden@127.0.0.1:1/y\n")
    done = command("run", "--config", str(file))
    assert done.returncode == 1
    assert "The database postgresql://127.0.0.1:1/y can't be used" in done.stderr
    assert "Traceback" not in done.stderr
    assert "hidden@" not in done.stderr


def test_it_takes_as_many_connections_as_the_system_allows() -> None:
    program = (
        "import resource; from homeserver.serve import allow_many_files; allow_many_files();"
        " print(*resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    limited = f"ulimit -S -n 256 && ulimit -H -n 2048 && exec {sys.executable} -c '{program}'"
    done = subprocess.run(["sh", "-c", limited], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2048", "2048"]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
async def test_it_starts_quickly_and_ends_cleanly(
    process: ServerProcess, how: signal.Signals, own_directory: Path
) -> None:
    await process.start()
    async with aiohttp.ClientSession() as http, http.get(process.url + "/health") as answer:
        assert answer.status == 200
    assert await process.end(how) == 0
    assert running_url(own_directory / "data" / "postgres") is None
    assert await process.start() < 15  # about 1 where nothing else runs: `make bench` measures it
    assert "Traceback" not in process.log()


async def test_an_account_is_made_while_the_server_runs_or_not(
    process: ServerProcess, own_directory: Path
) -> None:
    await process.start()
    config = ("--config", str(own_directory / "config.json"))
    done = command("register", "alice", "--password", "correct horse", "--admin", *config)
    assert done.stdout == "Made @alice:hs.test, a server admin\n"
    await process.end()
    assert command("register", "bob", "--password", "x", *config).returncode == 0
    again = command("register", "bob", "--password", "x", *config)
    assert again.stderr == "homeserver: This user id is taken\n"
    assert running_url(own_directory / "data" / "postgres") is None


async def test_a_new_closed_server_prints_a_token_for_its_first_admin(
    closed: ServerProcess,
) -> None:
    await closed.start()
    found = re.search(r"^      (\S{20,})$", closed.log(), re.MULTILINE)
    assert found is not None
    auth = {"type": "m.login.registration_token", "token": found[1]}
    alice = closed.client()
    with pytest.raises(Refused) as refused:
        await alice.register("alice")
    auth["session"] = refused.value.body["session"]
    await alice.register("alice", auth=auth)
    with pytest.raises(Refused) as again:
        await closed.client().register("bob")
    assert again.value.errcode == "M_FORBIDDEN"
    await closed.end()
    begin = len(closed.log())
    await closed.start()
    assert "token" not in closed.log()[begin:]


async def test_a_second_server_on_the_same_data_is_refused(
    process: ServerProcess, own_directory: Path
) -> None:
    await process.start()
    second = command("run", "--config", str(own_directory / "config.json"))
    assert second.returncode == 1
    assert "in use by another homeserver" in second.stderr
    async with aiohttp.ClientSession() as http, http.get(process.url + "/health") as answer:
        assert answer.status == 200


async def test_after_a_crash_it_starts_on_the_postgres_that_was_left(
    process: ServerProcess,
) -> None:
    await process.start()
    process.kill()
    await process.start()
    assert process.events("adopting the PostgreSQL that was left running")


def printed(code: str) -> str:
    """What a Python process of its own prints."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=environment(),
    )
    return done.stdout.strip()


def test_no_command_needs_what_it_does_not_use() -> None:
    """`--help` must stay quick: it imports neither the server nor its libraries."""
    code = (
        "import sys, homeserver.cli;"
        "heavy = {'aiohttp', 'asyncpg', 'PIL', 'rich', 'structlog', 'obstore'};"
        "print(heavy & set(sys.modules))"
    )
    assert printed(code) == "set()"


def test_the_server_carries_nothing_that_only_some_use() -> None:
    code = (
        "import sys, homeserver.cli as cli; cli._import_frugally(); import homeserver.serve;"
        "some = {'prometheus_client', 'PIL', 'obstore', 'lxml', 'yaml',"
        " 'homeserver.store.embedded'};"
        "print(some & set(sys.modules))"
    )
    assert printed(code) == "set()"


async def test_a_restored_database_gives_out_no_key_twice(
    process: ServerProcess, own_directory: Path
) -> None:
    await process.start()
    alice = await process.client().register("alice")
    bob = await process.client().register("bob")
    room_id = await alice.create_room()
    await alice.post("/keys/upload", {"one_time_keys": one_time_keys("A", "B")})
    config = str(own_directory / "config.json")
    running = command("after-restore", "--config", config)
    assert running.returncode == 1
    assert "Stop it first" in running.stderr
    given_out = await claim(bob, alice)
    await alice.sync()
    await process.end()

    done = command("after-restore", "--config", config)
    assert done.stdout.startswith("Cleared 1 one-time keys")
    await process.start()
    process.moved(alice), process.moved(bob)
    assert await claim(bob, alice) is None
    event_id = await alice.send(room_id, "after")
    answer = await alice.sync()
    assert answer["device_one_time_keys_count"] == {"signed_curve25519": 0}
    assert [event["event_id"] for event in timeline(answer, room_id)] == [event_id]
    await alice.post("/keys/upload", {"one_time_keys": one_time_keys("C")})
    assert given_out != await claim(bob, alice) == "C"
