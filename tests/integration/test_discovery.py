"""What the server tells of itself: versions, capabilities, well-known files, the landing page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.support.client import refusal
from tests.support.server import RunningServer, settings

WELL_KNOWN = "/.well-known/matrix"


@pytest.fixture
async def public(database_url: str, tmp_path: Path) -> AsyncIterator[RunningServer]:
    """A server that tells the world where it is."""
    contact = {"role": "m.role.admin", "matrix_id": "@admin:hs.test"}
    server = RunningServer(
        settings(
            database_url,
            public_baseurl="https://matrix.hs.test",
            well_known={
                "server": "matrix.hs.test:443",
                "support_contacts": [contact],
                "support_page": "https://hs.test/help",
            },
        ),
        tmp_path,
    )
    await server.start()
    yield server
    await server.stop()


async def test_the_versions_are_told_without_a_token(server: RunningServer) -> None:
    answer = await server.anonymous().get("/_matrix/client/versions")
    assert answer["versions"][0] == "r0.0.1"
    assert answer["versions"][-1] == "v1.19"
    assert all(supported is True for supported in answer["unstable_features"].values())


async def test_older_clients_find_what_they_look_for(server: RunningServer) -> None:
    alice = await server.user("alice")
    features = (await alice.get("/_matrix/client/versions"))["unstable_features"]
    # Without it Element Web (until 2025) gives nobody cross-signing keys, and verifies no device.
    assert features["org.matrix.e2e_cross_signing"]
    assert features["uk.tcpip.msc4133"]
    profile = f"/_matrix/client/unstable/uk.tcpip.msc4133/profile/{alice.user_id}"
    await alice.put(f"{profile}/m.tz", {"m.tz": "Europe/Berlin"})
    assert (await alice.get(profile))["m.tz"] == "Europe/Berlin"
    await alice.delete(f"{profile}/m.tz")
    assert "m.tz" not in await alice.get(profile)


async def test_the_capabilities_are_told(server: RunningServer) -> None:
    alice = await server.user("alice")
    capabilities = (await alice.get("/capabilities"))["capabilities"]
    assert capabilities["m.room_versions"] == {
        "default": "12",
        "available": {str(version): "stable" for version in range(1, 13)},
    }
    assert capabilities["m.change_password"] == {"enabled": True}
    refused = await refusal(server.anonymous().get("/capabilities"))
    assert (refused.status, refused.errcode) == (401, "M_MISSING_TOKEN")


async def test_well_known_files_are_served_when_configured(public: RunningServer) -> None:
    client = public.anonymous()
    homeserver = {"m.homeserver": {"base_url": "https://matrix.hs.test"}}
    assert await client.get(WELL_KNOWN + "/client") == homeserver
    assert await client.get(WELL_KNOWN + "/server") == {"m.server": "matrix.hs.test:443"}
    assert await client.get(WELL_KNOWN + "/support") == {
        "contacts": [{"role": "m.role.admin", "matrix_id": "@admin:hs.test"}],
        "support_page": "https://hs.test/help",
    }


@pytest.mark.parametrize("name", ["client", "server", "support"])
async def test_well_known_files_are_absent_otherwise(server: RunningServer, name: str) -> None:
    refused = await refusal(server.anonymous().get(f"{WELL_KNOWN}/{name}"))
    assert (refused.status, refused.errcode) == (404, "M_NOT_FOUND")


async def test_a_login_tells_the_public_address(public: RunningServer) -> None:
    await public.user("alice")
    body = {"type": "m.login.password", "user": "alice", "password": "correct horse"}
    answer = await public.anonymous().post("/login", body)
    assert answer["well_known"] == {"m.homeserver": {"base_url": "https://matrix.hs.test"}}


async def test_the_landing_page_says_how_to_connect(public: RunningServer) -> None:
    async with public.anonymous().http.get(public.url + "/") as response:
        assert response.content_type == "text/html"
        page = await response.text()
    assert "It works" in page
    assert "https://matrix.hs.test" in page


async def test_health_is_told(server: RunningServer) -> None:
    async with server.anonymous().http.get(server.url + "/health") as response:
        assert (response.status, await response.text()) == (200, "OK")


async def test_paths_from_before_they_were_stable_still_answer(server: RunningServer) -> None:
    alice = await server.user("alice")
    room_id = await alice.create_room(room_alias_name="pub")
    since = (await alice.sync())["next_batch"]
    start = "/_matrix/client/unstable"
    room = f"rooms/{quote(room_id)}"
    assert (await alice.get(f"{start}/joined_rooms"))["joined_rooms"] == [room_id]
    assert alice.user_id in (await alice.get(f"{start}/{room}/joined_members"))["joined"]
    aliases = await alice.get(f"{start}/org.matrix.msc2432/{room}/aliases")
    assert aliases["aliases"] == ["#pub:hs.test"]
    assert await alice.get(f"{start}/thirdparty/protocols") == {}
    assert "changed" in await alice.get(f"{start}/keys/changes", **{"from": since, "to": since})
