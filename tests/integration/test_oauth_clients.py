"""Clients register themselves. client-server-api#client-registration"""

from __future__ import annotations

from homeserver.json_types import JsonObject
from tests.support.oauth import METADATA, Browser, OAuthClient, code_for, log_in
from tests.support.server import RunningServer


async def test_a_client_is_told_what_is_registered(oauth: RunningServer) -> None:
    more = {
        "client_name#fr": "Mon application",
        "tos_uri": "https://example.com/tos.html",
        "grant_types": [*METADATA["grant_types"], "urn:ietf:params:oauth:grant-type:x"],
    }
    status, answer = await OAuthClient(oauth).register(**more)
    assert status == 201
    client_id = answer.pop("client_id")
    assert client_id
    assert answer == {**METADATA, "tos_uri": "https://example.com/tos.html"}


async def test_the_same_metadata_gives_the_same_client(oauth: RunningServer) -> None:
    first, second, other = OAuthClient(oauth), OAuthClient(oauth), OAuthClient(oauth)
    await first.register()
    await second.register(**{"client_name#de": "Meine App"})
    await other.register(client_name="Another")
    assert first.client_id == second.client_id != other.client_id
    assert await _count(oauth) == 2


async def test_wrong_metadata_is_refused(oauth: RunningServer) -> None:
    wrongs: list[tuple[str, JsonObject]] = [
        ("invalid_client_metadata", {"client_uri": None}),
        ("invalid_client_metadata", {"client_uri": "http://example.com/"}),
        ("invalid_client_metadata", {"logo_uri": "https://elsewhere.com/logo.png"}),
        ("invalid_client_metadata", {"token_endpoint_auth_method": "client_secret_basic"}),
        ("invalid_client_metadata", {"redirect_uris": "https://example.com/"}),
        ("invalid_redirect_uri", {"redirect_uris": ["https://elsewhere.com/callback"]}),
        ("invalid_redirect_uri", {"redirect_uris": []}),
    ]
    for error, wrong in wrongs:
        status, answer = await OAuthClient(oauth).register(**wrong)
        assert (status, answer["error"]) == (400, error)
        assert "errcode" not in answer
    assert await _count(oauth) == 0


async def test_a_native_client_listens_at_any_port(oauth: RunningServer) -> None:
    client = OAuthClient(oauth)
    registered = ["http://127.0.0.1/callback", "com.example.app:/callback"]
    status, _ = await client.register(application_type="native", redirect_uris=registered)
    assert status == 201
    for redirect_uri in ("http://127.0.0.1:4321/callback", "com.example.app:/callback"):
        client.redirect_uri = redirect_uri
        code = await code_for(client, "alice", Browser(oauth))
        assert (await client.redeem(code))[0] == 200
    for redirect_uri in ("http://localhost:4321/callback", "http://127.0.0.1:4321/other"):
        client.redirect_uri = redirect_uri
        page = await Browser(oauth).open(client.authorization_url())
        assert (page.status, page.location) == (400, "")


async def test_clients_that_nobody_uses_are_forgotten(oauth: RunningServer) -> None:
    used, _, tokens = await log_in(oauth, "alice")
    await OAuthClient(oauth).register(client_name="Unused")
    assert oauth.app is not None
    async with oauth.app.database.connection() as connection:
        await connection.execute("UPDATE oauth_clients SET used_at = 0")
    await OAuthClient(oauth).register(client_name="New")
    assert await _count(oauth) == 2  # "The server MUST NOT delete [those with] an active session."
    assert (await used.refresh(tokens["refresh_token"]))[0] == 200


async def _count(server: RunningServer) -> int:
    assert server.app is not None
    async with server.app.database.connection() as connection:
        return int(await connection.fetchval("SELECT count(*) FROM oauth_clients"))
