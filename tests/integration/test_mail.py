"""Mail addresses: confirmed by a link, added to accounts, good for a lost password.

client-server-api#adding-account-administrative-contact-information
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.conftest import StartServer
from tests.support.client import PASSWORD, V3, Client, refusal
from tests.support.mailbox import Mailbox, mailbox
from tests.support.server import RunningServer

ADDRESS = "Alice@Example.org"
BY_PASSWORD = {"type": "m.login.password", "password": PASSWORD}
PURPOSES = ("account/3pid", "account/password", "register")


@pytest.fixture
async def box() -> AsyncIterator[Mailbox]:
    async with mailbox() as box:
        yield box


@pytest.fixture
async def mailing(start_server: StartServer, box: Mailbox) -> RunningServer:
    """A server with a mail server."""
    settings = {"host": "127.0.0.1", "port": box.port, "security": "none", "sender": "hs@hs.test"}
    return await start_server(mail=settings)


async def ask(client: Client, purpose: str, attempt: int = 1, **more: Any) -> str:
    body = {"client_secret": "secret", "email": ADDRESS, "send_attempt": attempt, **more}
    return str((await client.post(f"/{purpose}/email/requestToken", body))["sid"])


async def page(client: Client, link: str, method: str = "GET") -> tuple[int, str]:
    """The page that a link leads to; POST presses its button."""
    url = urlsplit(link)
    data = url.query if method == "POST" else None
    path = url.path if method == "POST" else f"{url.path}?{url.query}"
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    async with client.http.request(
        method, client.url + path, data=data, headers=headers
    ) as response:
        return response.status, await response.text()


async def confirm(client: Client, box: Mailbox) -> str:
    status, text = await page(client, box.link(), "POST")
    assert status == 200
    return text


async def with_address(server: RunningServer, box: Mailbox) -> Client:
    """A user whose account has ADDRESS."""
    alice = await server.user("alice")
    sid = await ask(alice, "account/3pid")
    await confirm(alice, box)
    body = {"sid": sid, "client_secret": "secret", "auth": BY_PASSWORD}
    assert await alice.post("/account/3pid/add", body) == {}
    return alice


async def test_a_confirmed_address_is_added(mailing: RunningServer, box: Mailbox) -> None:
    alice = await mailing.user("alice")
    assert (await alice.get("/capabilities"))["capabilities"]["m.3pid_changes"]["enabled"]
    sid = await ask(alice, "account/3pid")
    body = {"sid": sid, "client_secret": "secret", "auth": BY_PASSWORD}
    assert box.letters[0]["To"] == "alice@example.org"

    assert (await page(alice, box.link()))[0] == 200  # to look at it is not to agree
    early = await refusal(alice.post("/account/3pid/add", body))
    assert (early.status, early.errcode) == (403, "M_THREEPID_AUTH_FAILED")
    await confirm(alice, box)
    needed = await refusal(alice.post("/account/3pid/add", {**body, "auth": None}))
    assert needed.body["flows"] == [{"stages": ["m.login.password"]}]
    await alice.post("/account/3pid/add", body)

    (threepid,) = (await alice.get("/account/3pid"))["threepids"]
    assert (threepid["medium"], threepid["address"]) == ("email", "alice@example.org")
    assert threepid["validated_at"] <= threepid["added_at"]
    identifier = {"type": "m.id.thirdparty", "medium": "email", "address": ADDRESS}
    again = await mailing.anonymous().login("", identifier=identifier)
    assert again.user_id == alice.user_id
    assert (await refusal(alice.post("/account/3pid/add", body))).status == 403  # it has served


async def test_a_letter_outlives_a_restart(mailing: RunningServer, box: Mailbox) -> None:
    alice = await mailing.user("alice")
    sid = await ask(alice, "account/3pid")
    await mailing.restart()
    assert await ask(mailing.moved(alice), "account/3pid") == sid
    assert len(box.letters) == 1
    await confirm(alice, box)
    await mailing.restart()
    body = {"sid": sid, "client_secret": "secret", "auth": BY_PASSWORD}
    assert await mailing.moved(alice).post("/account/3pid/add", body) == {}


async def test_one_attempt_sends_one_letter(mailing: RunningServer, box: Mailbox) -> None:
    alice = await mailing.user("alice")
    sids = [await ask(alice, "account/3pid", attempt) for attempt in (1, 1, 2)]
    assert len(set(sids)) == 1
    assert len(box.letters) == 2
    assert await ask(alice, "account/3pid", client_secret="another") != sids[0]


async def test_a_lost_password_is_replaced(mailing: RunningServer, box: Mailbox) -> None:
    alice = await with_address(mailing, box)
    client = mailing.anonymous()
    sid = await ask(client, "account/password")
    needed = await refusal(client.post("/account/password", {"new_password": "battery"}))
    assert {"stages": ["m.login.email.identity"]} in needed.body["flows"]
    credentials = {"sid": sid, "client_secret": "secret"}
    auth = {
        "type": "m.login.email.identity",
        "threepid_creds": credentials,
        "session": needed.body["session"],
    }
    body = {"new_password": "battery", "auth": auth}
    waiting = await refusal(client.post("/account/password", body))
    assert (waiting.status, waiting.errcode) == (401, "M_THREEPID_AUTH_FAILED")
    await confirm(client, box)

    await client.post("/account/password", body)

    assert (await refusal(alice.get("/account/whoami"))).errcode == "M_UNKNOWN_TOKEN"
    await mailing.anonymous().login("alice", "battery")


async def test_a_proof_serves_once_however_many_sessions_know_it(
    mailing: RunningServer, box: Mailbox
) -> None:
    await with_address(mailing, box)
    client = mailing.anonymous()
    sid = await ask(client, "account/password")
    await confirm(client, box)
    sessions = []
    for _ in range(2):
        needed = await refusal(client.post("/account/password", {"new_password": "battery"}))
        sessions.append(needed.body["session"])
        url = f"{V3}/auth/m.login.email.identity/fallback/web?session={sessions[-1]}"
        fields = {"sid": sid, "client_secret": "secret"}
        async with client.http.post(client.url + url, data=fields) as response:
            assert response.status == 200

    first, second = ({"auth": {"session": session}} for session in sessions)
    await client.post("/account/password", {"new_password": "battery", **first})
    again = client.post("/account/password", {"new_password": "staple", **second})
    assert (await refusal(again)).errcode == "M_THREEPID_AUTH_FAILED"
    await mailing.anonymous().login("alice", "battery")


async def test_what_was_confirmed_for_one_thing_serves_no_other(
    mailing: RunningServer, box: Mailbox
) -> None:
    await with_address(mailing, box)
    eve = await mailing.user("eve")
    address = "alice+other@example.org"
    sid = await ask(eve, "register", email=address)
    await confirm(eve, box)
    credentials = {"sid": sid, "client_secret": "secret"}
    refused = await refusal(eve.post("/account/3pid/add", {**credentials, "auth": BY_PASSWORD}))
    assert refused.errcode == "M_THREEPID_AUTH_FAILED"
    auth = {"type": "m.login.email.identity", "threepid_creds": credentials}
    body = {"new_password": "battery", "auth": auth}
    refused = await refusal(mailing.anonymous().post("/account/password", body))
    assert refused.errcode == "M_THREEPID_AUTH_FAILED"


async def test_nobody_resets_the_password_of_another_login(
    mailing: RunningServer, box: Mailbox
) -> None:
    await with_address(mailing, box)
    bob = await mailing.user("bob")
    sid = await ask(bob, "account/password")
    await confirm(bob, box)
    credentials = {"sid": sid, "client_secret": "secret"}
    auth = {"type": "m.login.email.identity", "threepid_creds": credentials}
    refused = await refusal(
        bob.post("/account/password", {"new_password": "battery", "auth": auth})
    )
    assert (refused.status, refused.errcode) == (403, "M_FORBIDDEN")


async def test_a_new_account_may_begin_with_an_address(
    mailing: RunningServer, box: Mailbox
) -> None:
    client = mailing.anonymous()
    sid = await ask(client, "register")
    await confirm(client, box)
    credentials = {"sid": sid, "client_secret": "secret"}
    auth = {"type": "m.login.email.identity", "threepid_creds": credentials}
    body = {"username": "alice", "password": PASSWORD}
    needed = await refusal(client.post("/register", body))
    assert {"stages": ["m.login.email.identity"]} in needed.body["flows"]

    client._logged_in(await client.post("/register", {**body, "auth": auth}))

    assert len((await client.get("/account/3pid"))["threepids"]) == 1


async def test_addresses_have_one_owner(mailing: RunningServer, box: Mailbox) -> None:
    await with_address(mailing, box)
    bob = await mailing.user("bob")
    for purpose in ("account/3pid", "register"):
        refused = await refusal(ask(bob, purpose))
        assert (refused.status, refused.errcode) == (400, "M_THREEPID_IN_USE")
    refused = await refusal(ask(bob, "account/password", email="nobody@example.org"))
    assert (refused.status, refused.errcode) == (400, "M_THREEPID_NOT_FOUND")


async def test_what_is_no_address_or_secret_is_refused(mailing: RunningServer) -> None:
    alice = await mailing.user("alice")
    wrongs: tuple[dict[str, Any], ...] = (
        {"email": "nonsense"},
        {"email": "a@b\r\nBcc: c@d"},
        {"client_secret": "ü"},
        {"client_secret": ""},
        {"next_link": "https://app.test/" + "x" * 2_000},
    )
    for wrong in wrongs:
        refused = await refusal(ask(alice, "account/3pid", **wrong))
        assert (refused.status, refused.errcode) == (400, "M_INVALID_PARAM")


async def test_a_mail_server_that_refuses_is_told_of(mailing: RunningServer, box: Mailbox) -> None:
    alice = await mailing.user("alice")
    box.refuses = True
    assert (await refusal(ask(alice, "account/3pid"))).status == 503
    box.refuses = False
    await ask(alice, "account/3pid")  # the same attempt, for it was never sent


async def test_a_link_leads_on_but_does_not_jump(mailing: RunningServer, box: Mailbox) -> None:
    alice = await mailing.user("alice")
    await ask(alice, "account/3pid", next_link='https://app.test/x?"a=1')
    assert 'href="https://app.test/x?&quot;a=1"' in await confirm(alice, box)
    await ask(alice, "account/3pid", client_secret="s", next_link="javascript:alert(1)")
    assert "href" not in await confirm(alice, box)
    url = box.link()
    assert (await page(alice, url.replace("token=", "token=x")))[0] == 404
    assert (await page(alice, url.replace("sid=", "sid=x"), "POST"))[0] == 404


async def test_without_a_mail_server_it_is_refused(server: RunningServer) -> None:
    alice = await server.user("alice")
    assert not (await alice.get("/capabilities"))["capabilities"]["m.3pid_changes"]["enabled"]
    phone = {"country": "GB", "phone_number": "07700900001"}
    expected = {
        "account/3pid": (400, "M_THREEPID_MEDIUM_NOT_SUPPORTED"),
        "account/password": (403, "M_THREEPID_DENIED"),
        "register": (403, "M_THREEPID_DENIED"),
    }
    for purpose in PURPOSES:
        by_phone = {"client_secret": "secret", "send_attempt": 1, **phone}
        for request in (
            ask(alice, purpose),
            alice.post(f"/{purpose}/msisdn/requestToken", by_phone),
        ):
            refused = await refusal(request)
            assert (refused.status, refused.errcode) == expected[purpose]


async def test_identity_servers_are_not_asked(server: RunningServer) -> None:
    alice = await server.user("alice")
    credentials = {"sid": "1", "client_secret": "s", "id_server": "x", "id_access_token": "y"}
    refused = await refusal(alice.post("/account/3pid/bind", credentials))
    assert (refused.status, refused.errcode) == (403, "M_SERVER_NOT_TRUSTED")
    refused = await refusal(alice.post("/account/3pid", {"three_pid_creds": credentials}))
    assert (refused.status, refused.errcode) == (403, "M_THREEPID_AUTH_FAILED")


async def test_an_address_can_be_proven_on_the_fallback_page(
    mailing: RunningServer, box: Mailbox
) -> None:
    await with_address(mailing, box)
    client = mailing.anonymous()
    needed = await refusal(client.post("/account/password", {"new_password": "battery"}))
    session = needed.body["session"]
    url = f"{V3}/auth/m.login.email.identity/fallback/web?session={session}"

    async def press(**fields: str) -> tuple[int, str]:
        async with client.http.post(client.url + url, data=fields) as response:
            return response.status, await response.text()

    assert "No account" in (await press(address="nobody@example.org"))[1]
    _, form = await press(address=ADDRESS)
    fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', form))
    assert (await press(**fields))[0] == 401
    await confirm(client, box)
    status, done = await press(**fields)
    assert (status, "onAuthDone" in done) == (200, True)
    body = {"new_password": "battery", "auth": {"session": session}}
    await client.post("/account/password", body)
    await mailing.anonymous().login("alice", "battery")
