"""A browser that shows forms and sends them, and an OAuth 2.0 client beside it."""

from __future__ import annotations

import base64
import hashlib
import secrets
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

from homeserver.json_types import JsonObject
from tests.support.client import PASSWORD, Client
from tests.support.server import RunningServer

OUTSIDE = "https://matrix.hs.test"
API = "urn:matrix:client:api:*"
DEVICE = "urn:matrix:client:device:"
REDIRECT = "https://app.example.com/callback?kept=1"
METADATA = {
    "client_name": "My App",
    "client_uri": "https://example.com/",
    "redirect_uris": [REDIRECT],
    "grant_types": ["authorization_code", "refresh_token"],
    "response_types": ["code"],
    "token_endpoint_auth_method": "none",
    "application_type": "web",
}
OPTIONS: JsonObject = {"public_baseurl": OUTSIDE, "oauth": {"enabled": True}}


@dataclass
class Form:
    """A form of a page: where it is sent, what is in it, its buttons as (name, value)."""

    action: str
    fields: dict[str, str] = field(default_factory=dict)
    buttons: list[tuple[str, str]] = field(default_factory=list)


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form":
            assert values["method"] == "post"
            self.forms.append(Form(values.get("action", "")))
        elif tag == "input" and self.forms:
            self.forms[-1].fields[values["name"]] = values.get("value", "")
        elif tag == "button" and "name" in values:
            self.forms[-1].buttons.append((values["name"], values["value"]))
        elif tag == "a":
            self.links.append(values["href"])


@dataclass
class Page:
    """What the browser shows; a redirect to somebody else is `location`."""

    status: int
    text: str
    location: str
    headers: Any
    forms: list[Form]
    links: list[str]

    def form(self, end: str) -> Form:
        """The form that is sent to a path with this end."""
        return next(f for f in self.forms if urlsplit(f.action).path.endswith(end))

    @property
    def answer(self) -> dict[str, str]:
        """What a client is told at its redirect URI."""
        parts = urlsplit(self.location)
        return dict(parse_qsl(parts.fragment or parts.query))


class Browser:
    """Keeps the cookies of one site, follows redirects within it, sends forms."""

    def __init__(self, server: RunningServer) -> None:
        self._server = server
        self.http = server.anonymous().http
        self._outside = str(server.config.public_baseurl).rstrip("/")
        self.cookies: dict[str, str] = {}

    async def open(self, url: str, fields: dict[str, str] | None = None) -> Page:
        """GET, or POST with fields; redirects that stay here are followed."""
        for _ in range(5):
            page = await self._once(url, fields)
            target = urljoin(url, page.location)
            if not page.location or urlsplit(target).netloc != urlsplit(self._outside).netloc:
                return page
            url, fields = target, None
        raise AssertionError("redirected without end")

    async def send(self, form: Form, **values: str) -> Page:
        return await self.open(urljoin(self._outside, form.action), {**form.fields, **values})

    async def _once(self, url: str, fields: dict[str, str] | None) -> Page:
        here = self._server.url + url.removeprefix(self._outside)
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        async with self.http.request(
            "GET" if fields is None else "POST",
            here,
            data=fields,
            headers={"Cookie": cookies} if cookies else {},
            allow_redirects=False,
            cookies=None,
        ) as response:
            for name, morsel in response.cookies.items():
                self.cookies[name] = morsel.value
            parser = _Forms()
            text = await response.text()
            parser.feed(text)
            location = response.headers.get("Location", "")
            return Page(
                response.status, text, location, response.headers, parser.forms, parser.links
            )

    async def sign_in(self, page: Page, user: str, password: str = PASSWORD) -> Page:
        return await self.send(page.form("/sign_in"), user=user, password=password)


class OAuthClient:
    """A client as the specification wants it."""

    def __init__(self, server: RunningServer) -> None:
        self._server = server
        self.http = server.anonymous().http
        self.metadata: JsonObject = {}
        self.client_id = ""
        self.redirect_uri = REDIRECT
        self.verifier = secrets.token_urlsafe(40)
        self.device_id = "DEVICE" + secrets.token_hex(4)

    async def discover(self) -> JsonObject:
        path = "/_matrix/client/v1/auth_metadata"
        self.metadata = await self._server.anonymous().get(path)
        return self.metadata

    async def register(self, **more: Any) -> tuple[int, JsonObject]:
        """The status and the body of the answer."""
        if not self.metadata:
            await self.discover()
        body = {k: v for k, v in {**METADATA, **more}.items() if v is not None}
        async with self.http.post(self.here("registration"), json=body) as response:
            answer = await response.json()
            self.client_id = answer.get("client_id", self.client_id)
            return response.status, answer

    def authorization_url(self, **more: str | None) -> str:
        digest = hashlib.sha256(self.verifier.encode()).digest()
        parameters = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": self.redirect_uri,
            "scope": f"{API} {DEVICE}{self.device_id}",
            "state": "the-state",
            "response_mode": "fragment",
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
            **more,
        }
        given = {name: value for name, value in parameters.items() if value is not None}
        return f"{self.metadata['authorization_endpoint']}?{urlencode(given)}"

    async def post(self, endpoint: str, **fields: str) -> tuple[int, JsonObject]:
        """To one of the endpoints of the metadata."""
        async with self.http.post(self.here(endpoint), data=fields) as response:
            assert response.headers["Cache-Control"] == "no-store"
            return response.status, await response.json()

    async def redeem(self, code: str, **more: str) -> tuple[int, JsonObject]:
        fields = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.redirect_uri,
            "client_id": self.client_id,
            "code_verifier": self.verifier,
        }
        return await self.post("token", **{**fields, **more})

    async def refresh(self, refresh_token: str, **more: str) -> tuple[int, JsonObject]:
        fields = {"grant_type": "refresh_token", "refresh_token": refresh_token}
        return await self.post("token", **{**fields, "client_id": self.client_id, **more})

    def logged_in(self, tokens: JsonObject) -> Client:
        """The device that has these tokens."""
        client = self._server.anonymous()
        client.token, client.device_id = tokens["access_token"], self.device_id
        return client

    def here(self, endpoint: str) -> str:
        """Where one of the endpoints of the metadata is in truth."""
        outside = str(self._server.config.public_baseurl).rstrip("/")
        return self._server.url + str(self.metadata[f"{endpoint}_endpoint"]).removeprefix(outside)


async def code_for(client: OAuthClient, user: str, browser: Browser, **more: str | None) -> str:
    """The code with which a user's browser is sent back to the client."""
    page = await browser.open(client.authorization_url(**more))
    if any(form.action.endswith("/sign_in") for form in page.forms):
        page = await browser.sign_in(page, user)
    page = await browser.send(page.form("/authorize"), decision="allow")
    assert page.status == 303, page.text
    return page.answer["code"]


async def log_in(server: RunningServer, user: str) -> tuple[OAuthClient, Client, JsonObject]:
    """A user's new device by OAuth 2.0: its client, the device, its tokens."""
    client = OAuthClient(server)
    await client.register()
    code = await code_for(client, user, Browser(server))
    status, tokens = await client.redeem(code)
    assert status == 200, tokens
    device = client.logged_in(tokens)
    device.user_id = (await device.get("/account/whoami"))["user_id"]
    return client, device, tokens
