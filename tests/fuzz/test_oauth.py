"""The OAuth 2.0 endpoints and pages, asked for nonsense by a browser that is signed in: no 5xx.

`FUZZ_CASES` and `FUZZ_SEED` as for the specification's operations.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from random import Random
from typing import Any
from urllib.parse import urlencode

from homeserver.http.endpoint import Endpoints
from homeserver.http.oauth.paths import PREFIX
from homeserver.http.routes import ROUTES
from tests.conftest import StartServer
from tests.support.client import PASSWORD
from tests.support.oauth import API, DEVICE, METADATA, OPTIONS, REDIRECT, Browser, OAuthClient

CASES = int(os.environ.get("FUZZ_CASES", "4"))
SEED = int(os.environ.get("FUZZ_SEED", "1"))
UNUSUAL = [
    *("", "\0", "a" * 3000, "é", "%", "%00", "\r\nX: y", "[]", "-1", "null", "<script>", "{x}"),
    *("https://[", "http://[::1", "hso_x_y", "hso__", "hsc_", "@alice:hs.test", "alice\0", "a b"),
]
NAMES = (
    *("action", "address", "again", "client_id", "client_secret", "code", "code_challenge"),
    *("code_verifier", "decision", "device_code", "device_id", "displayname", "grant_type"),
    *("login_hint", "new", "onward", "password", "prompt", "redirectUrl", "redirect_uri"),
    *("refresh_token", "response_mode", "response_type", "scope", "sid", "state", "token"),
    *("user", "user_code"),
)
GRANTS = (
    "authorization_code",
    "refresh_token",
    "urn:ietf:params:oauth:grant-type:device_code",
    "",
)
# These end what the others need.
NOT = ("/sign_out", "/account/deactivate")


def routes(groups: tuple[Endpoints, ...]) -> list[tuple[str, str]]:
    """(method, path) of all there is below our prefix."""
    return [
        (declared.method, path)
        for group in groups
        for declared in group.declarations
        for path in declared.paths
        if path.startswith(PREFIX) and not path.endswith(NOT)
    ]


def nonsense(random: Random, usual: Mapping[str, str]) -> str:
    """Most of the usual fields, and some that are unusual."""
    fields = {name: value for name, value in usual.items() if random.random() < 0.9}
    fields["grant_type"] = random.choice(GRANTS)
    for _ in range(random.randrange(3)):
        fields[random.choice(NAMES)] = random.choice(UNUSUAL)
    return urlencode(fields)


async def test_nonsense_is_refused(start_server: StartServer) -> None:
    server = await start_server(**OPTIONS)
    await server.user("alice")
    client, browser, random = OAuthClient(server), Browser(server), Random(SEED)
    await client.register()
    page = await browser.sign_in(await browser.open(client.authorization_url()), "alice")
    usual = {
        **page.form("/authorize").fields,
        "client_id": client.client_id,
        "redirect_uri": REDIRECT,
        "response_type": "code",
        "code_challenge_method": "S256",
        "code_challenge": "a" * 43,
        "scope": f"{API} {DEVICE}abc",
        "onward": f"{PREFIX}/account",
        "redirectUrl": "https://a.example/",
        "decision": "allow",
        "displayname": "Alice",
        "password": PASSWORD,
    }
    cookies = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    headers = {"Cookie": cookies, "Content-Type": "application/x-www-form-urlencoded"}
    for method, path in routes(ROUTES) * CASES:
        body = nonsense(random, usual) if method == "POST" else None
        url = f"{server.url}{path}?{nonsense(random, usual)}"
        async with client.http.request(
            method, url, data=body, headers=headers, allow_redirects=False
        ) as response:
            text = await response.text()
        assert response.status < 500, f"{method} {url} {body}\n{text}"


async def test_clients_with_nonsense_are_refused(start_server: StartServer) -> None:
    server = await start_server(**OPTIONS)
    client, random = OAuthClient(server), Random(SEED)
    values: list[Any] = [*UNUSUAL, None, 5, [], {}, ["x"], [5], ["https://example.com/\0"], True]
    for _ in range(CASES * 10):
        wrong = {random.choice([*METADATA, "logo_uri"]): random.choice(values) for _ in range(2)}
        status, answer = await client.register(**wrong)
        assert status in (201, 400), wrong
        assert status == 201 or answer["error"].startswith("invalid_"), wrong
