"""The web pages on which people sign in and make accounts: forms, cookies, and what guards them.

client-server-api#oauth-20-api
"""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qsl, urljoin, urlsplit

import pytest

from tests.conftest import StartServer
from tests.support.client import PASSWORD, refusal
from tests.support.mailbox import mailbox
from tests.support.oauth import OPTIONS, OUTSIDE, Browser, OAuthClient, Page, code_for
from tests.support.server import RunningServer


@pytest.fixture
async def client(oauth: RunningServer) -> OAuthClient:
    client = OAuthClient(oauth)
    await client.register()
    return client


async def test_pages_are_in_no_frame_no_cache_and_have_no_script(
    oauth: RunningServer, client: OAuthClient
) -> None:
    browser = Browser(oauth)
    sign_in = await browser.open(client.authorization_url())
    consent = await browser.sign_in(sign_in, "alice")
    failed = await browser.open(client.authorization_url(client_id="nobody"))
    for page in (sign_in, consent, failed):
        policy = page.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "script-src" not in policy
        assert "<script" not in page.text
        assert page.headers["X-Frame-Options"] == "DENY"
        assert page.headers["Cache-Control"] == "no-store"
        assert page.headers["Referrer-Policy"] == "no-referrer"
    assert (
        "form-action 'self' https://app.example.com" in consent.headers["Content-Security-Policy"]
    )
    cookie = sign_in.headers["Set-Cookie"]
    for attribute in ("HttpOnly", "SameSite=Lax", "Secure", "Path=/"):
        assert attribute in cookie
    assert cookie.startswith("__Host-")


async def test_a_cookie_that_is_none_of_ours_is_replaced(oauth: RunningServer) -> None:
    host, port = oauth.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /_matrix/oauth2/account HTTP/1.1\r\nHost: x\r\nConnection: close\r\n")
    writer.write(b"Cookie: __Host-sign_in=\xff\r\n\r\n")
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"Set-Cookie: __Host-sign_in=" in answer


async def test_what_a_client_says_of_itself_is_text(oauth: RunningServer) -> None:
    client, browser = OAuthClient(oauth), Browser(oauth)
    await client.register(
        client_name='<b>Bold</b> & "quoted" \u202e', logo_uri="https://example.com/l"
    )
    page = await browser.sign_in(await browser.open(client.authorization_url()), "alice")
    assert "&lt;b&gt;Bold&lt;/b&gt; &amp; &quot;quoted&quot;" in page.text
    assert "<b>" not in page.text
    assert "\u202e" not in page.text
    assert "https://example.com/l" in page.links


async def test_a_form_that_another_site_made_is_refused(
    oauth: RunningServer, client: OAuthClient
) -> None:
    browser, stranger = Browser(oauth), Browser(oauth)
    page = await browser.open(client.authorization_url())
    foreign = await stranger.open(client.authorization_url())
    for check in ("", "wrong", foreign.form("/sign_in").fields["form_check"]):
        form = page.form("/sign_in")
        refused = await browser.send(form, user="alice", password=PASSWORD, form_check=check)
        assert refused.status == 403
        assert not refused.forms
    page = await browser.sign_in(page, "alice")
    theirs = await stranger.sign_in(foreign, "alice")
    check = theirs.form("/authorize").fields["form_check"]
    refused = await browser.send(page.form("/authorize"), decision="allow", form_check=check)
    assert (refused.status, refused.location) == (403, "")


async def test_signing_in_gives_another_cookie(oauth: RunningServer, client: OAuthClient) -> None:
    browser = Browser(oauth)
    page = await browser.open(client.authorization_url())
    laid = dict(browser.cookies)
    await browser.sign_in(page, "alice")
    assert browser.cookies != laid
    spy = Browser(oauth)
    spy.cookies = laid
    page = await spy.open(client.authorization_url())
    assert page.form("/sign_in")


async def test_a_wrong_password_can_be_tried_again(
    oauth: RunningServer, client: OAuthClient
) -> None:
    browser = Browser(oauth)
    page = await browser.open(client.authorization_url())
    for user, password in (("alice", "wrong"), ("nobody", PASSWORD), ("", "")):
        page = await browser.sign_in(page, user, password)
        assert page.status == 403
        assert "is wrong" in page.text
    page = await browser.sign_in(page, "@alice:hs.test")
    assert page.form("/authorize")


async def test_a_browser_stays_signed_in_until_it_is_signed_out(
    oauth: RunningServer, client: OAuthClient
) -> None:
    browser = Browser(oauth)
    await code_for(client, "alice", browser)
    page = await browser.open(client.authorization_url())
    page = await browser.send(page.form("/sign_out"))
    page = await browser.open(client.authorization_url())
    assert page.form("/sign_in")


async def test_a_new_password_signs_browsers_out(oauth: RunningServer, client: OAuthClient) -> None:
    browser = Browser(oauth)
    await code_for(client, "alice", browser)
    alice = await oauth.anonymous().login("alice")
    auth = {"type": "m.login.password", "password": PASSWORD}
    await alice.post("/account/password", {"new_password": "another", "auth": auth})
    page = await browser.open(client.authorization_url())
    assert page.form("/sign_in")


async def test_nobody_is_sent_elsewhere_after_signing_in(
    oauth: RunningServer, client: OAuthClient
) -> None:
    browser = Browser(oauth)
    page = await browser.open(client.authorization_url())
    for onward in ("https://evil.example/", "//evil.example/", "/_matrix/oauth2/\r\nX: y", ""):
        form = page.form("/sign_in")
        refused = await browser.send(form, user="alice", password=PASSWORD, onward=onward)
        assert (refused.status, refused.location) == (400, "")


async def test_passwords_are_tried_only_so_often(start_server: StartServer) -> None:
    limits = {"enabled": True, "login": {"per_second": 0.001, "burst": 3}}
    oauth = await start_server(**OPTIONS, rate_limits=limits)
    client, browser = OAuthClient(oauth), Browser(oauth)
    await client.register()
    page = await browser.open(client.authorization_url())
    page = await browser.sign_in(page, "alice", "wrong")
    page = await browser.sign_in(page, "alice", "wrong")
    assert page.status == 403
    limited = await browser.sign_in(page, "alice", "wrong")
    assert limited.status == 429
    assert limited.headers["Content-Type"].startswith("text/html")
    assert int(limited.headers["Retry-After"]) > 0


async def _register(browser: Browser, page: Page, user: str, **more: str) -> Page:
    fields = {"user": user, "password": "secret", "again": "secret", **more}
    return await browser.send(page.form("/register"), **fields)


async def test_an_account_is_made_on_the_way(oauth: RunningServer, client: OAuthClient) -> None:
    browser = Browser(oauth)
    page = await browser.open(client.authorization_url(prompt="create"))
    page = await _register(browser, page, "bob")
    assert "@bob:hs.test" in page.text
    page = await browser.send(page.form("/authorize"), decision="allow")
    status, tokens = await client.redeem(page.answer["code"])
    assert status == 200
    whoami = await client.logged_in(tokens).get("/account/whoami")
    assert whoami["user_id"] == "@bob:hs.test"
    assert (await oauth.anonymous().login("bob", "secret")).user_id == "@bob:hs.test"


async def test_what_an_account_can_not_be_made_with_is_said(
    oauth: RunningServer, client: OAuthClient
) -> None:
    browser = Browser(oauth)
    page = await browser.open(client.authorization_url(prompt="create"))
    for user, more, said in (
        ("alice", {}, "taken"),
        ("A b", {}, "username"),
        ("bob", {"again": "other"}, "not the same"),
        ("bob", {"password": "", "again": ""}, "needs a name"),
    ):
        page = await _register(browser, page, user, **more)
        assert page.status == 400
        assert said in page.text
    page = await browser.open(next(link for link in page.links if "/authorize?" in link))
    assert page.form("/sign_in")
    page = await browser.open(next(link for link in page.links if "/register?" in link))
    assert page.form("/register")


async def test_where_registration_is_closed_the_page_says_so(start_server: StartServer) -> None:
    oauth = await start_server(**OPTIONS, registration={"enabled": False})
    assert oauth.app is not None
    async with oauth.app.database.connection() as connection:
        await connection.execute("DELETE FROM registration_tokens")
    client, browser = OAuthClient(oauth), Browser(oauth)
    await client.register()
    page = await browser.open(client.authorization_url())
    assert not any("/register" in link for link in page.links)
    page = await browser.open(client.authorization_url(prompt="create"))
    assert (page.status, page.forms) == (403, [])
    assert "prompt_values_supported" not in client.metadata


async def test_a_registration_token_makes_an_account_once(start_server: StartServer) -> None:
    registration = {"enabled": True, "requires_token": True}
    oauth = await start_server(**OPTIONS, registration=registration)
    assert oauth.app is not None
    token = oauth.app.first_admin_token
    assert token is not None
    client, browser = OAuthClient(oauth), Browser(oauth)
    await client.register()
    page = await browser.open(client.authorization_url(prompt="create"))
    page = await _register(browser, page, "bob", token="wrong")
    assert page.status == 403
    page = await _register(browser, page, "bob", token=token)
    assert page.form("/authorize")
    other = Browser(oauth)
    page = await other.open(client.authorization_url(prompt="create"))
    page = await _register(other, page, "carol", token=token)
    assert page.status == 403


async def test_the_page_knows_whom_the_client_expects(
    oauth: RunningServer, client: OAuthClient
) -> None:
    browser = Browser(oauth)
    page = await browser.open(client.authorization_url(login_hint='mxid:@alice:hs.test">'))
    assert page.form("/sign_in").fields["user"] == '@alice:hs.test">'
    assert "lost_password" not in page.text  # no mail, no way
    page = await browser.open(f"{OUTSIDE}/_matrix/oauth2/lost_password")
    assert page.status == 404


async def test_a_lost_password_is_set_anew_by_mail(start_server: StartServer) -> None:
    async with mailbox() as box:
        mail = {"host": "127.0.0.1", "port": box.port, "security": "none", "sender": "hs@hs.test"}
        oauth = await start_server(**OPTIONS, mail=mail)
        alice = await oauth.user("alice")
        assert oauth.app is not None
        async with oauth.app.database.connection() as connection:
            await connection.execute(
                "INSERT INTO threepids (medium, address, user_id, validated_at, added_at)"
                " VALUES ('email', 'alice@example.org', $1, 0, 0)",
                alice.user_id,
            )
        client, browser = OAuthClient(oauth), Browser(oauth)
        await client.register()
        sign_in = await browser.open(client.authorization_url())
        page = await browser.open(next(link for link in sign_in.links if "lost_password" in link))
        wrong = await browser.send(page.form("/lost_password"), address="bob@example.org")
        assert wrong.status == 400
        page = await browser.send(page.form("/lost_password"), address="Alice@example.org")
        form = page.form("/new")
        early = await browser.send(form, new="new one", again="new one")
        assert early.status == 403

        letter = urlsplit(box.link())
        await browser.open(f"{OUTSIDE}{letter.path}", dict(parse_qsl(letter.query)))
        wrong = await browser.send(form, new="new one", again="another")
        assert wrong.status == 400
        page = await browser.send(form, new="new one", again="new one")
        assert page.status == 200
        assert (await refusal(alice.get("/account/whoami"))).errcode == "M_UNKNOWN_TOKEN"
        page = await browser.open(page.links[0])
        page = await browser.sign_in(page, "alice@example.org", "new one")
        assert "@alice:hs.test" in page.text
        again = await browser.send(form, new="third", again="third")
        assert again.status == 403


async def test_the_server_may_be_below_a_path(start_server: StartServer) -> None:
    below = {**OPTIONS, "public_baseurl": "https://example.org/matrix/"}
    oauth = await start_server(**below)
    await oauth.user("alice")
    client, browser = OAuthClient(oauth), Browser(oauth)
    await client.register()
    assert client.metadata["issuer"] == "https://example.org/matrix/_matrix/oauth2/"
    code = await code_for(client, "alice", browser)
    assert (await client.redeem(code))[0] == 200
    page = await browser.open(client.metadata["account_management_uri"])
    page = await browser.open(urljoin(client.metadata["issuer"], page.links[0]))
    assert "Your devices" in page.text
