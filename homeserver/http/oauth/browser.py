"""The browser that asks for a page: its cookie, who is signed in there, and what it sends.

Rules of this file: each form carries a value that only who can read the browser's cookie knows
(against requests that another site makes in the user's name); what a browser is told is a page,
errors too.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import re
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qsl

from aiohttp.web import Response
from msgspec import Struct

from homeserver.errors import Forbidden, InvalidParam, MatrixError, Unrecognized
from homeserver.http.body import read_body
from homeserver.http.call import Call
from homeserver.http.markup import Html, form, hidden, page, problem
from homeserver.http.oauth.paths import local, offered
from homeserver.http.rate_limits import Limit
from homeserver.protocol.oauth.requests import single
from homeserver.services.oauth.browsers import new_cookie
from homeserver.services.oauth.parts import OAuthParts
from homeserver.store.accounts import Account

MAX_FORM_BYTES = 20_000
CHECK = "form_check"
_COOKIE = re.compile(r"[0-9A-Za-z_-]{43}")

PageHandler = Callable[[Call], Awaitable[Response]]


class Browser(Struct, frozen=True):
    """`account` is that of who is signed in; None: nobody."""

    oauth: OAuthParts
    cookie: str
    account: Account | None

    @property
    def signed_in(self) -> Account:
        """The account. Raises `Forbidden`."""
        if self.account is None:
            raise Forbidden("You are not signed in any more: go back and sign in again")
        return self.account

    @property
    def form_check(self) -> str:
        return hashlib.sha256(b"form " + self.cookie.encode()).hexdigest()

    def form(self, path: str, *content: Html) -> Html:
        """A form that is sent to one of our pages."""
        return form(local(self.oauth, path), hidden({CHECK: self.form_check}), *content)

    def shown(self, response: Response) -> Response:
        """The page, with the cookie."""
        secure = _is_secure(self.oauth)
        response.set_cookie(
            _cookie_name(self.oauth),
            self.cookie,
            path="/",
            httponly=True,
            samesite="Lax",
            secure=secure,
        )
        return response

    def sent_to(self, location: str) -> Response:
        """A redirect, with the cookie."""
        return self.shown(redirect(location))


def redirect(location: str) -> Response:
    """To another page by GET; where from is not told."""
    headers = {"Location": location, "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}
    return Response(status=303, headers=headers)


async def browser_of(call: Call) -> Browser:
    """Who asks. Raises `Unrecognized` if there are no such pages here."""
    oauth = offered(call)
    cookie = call.request.cookies.get(_cookie_name(oauth))
    if cookie is None or _COOKIE.fullmatch(cookie) is None:
        return Browser(oauth, new_cookie(), None)
    return Browser(oauth, cookie, await oauth.browsers.account(cookie))


def signed_in_as(oauth: OAuthParts, account: Account) -> Browser:
    """The browser once it has shown that it is this user's."""
    return Browser(oauth, oauth.browsers.sign_in(account), account)


async def sent_form(call: Call, browser: Browser, limit: Limit = Limit.DEFAULT) -> dict[str, str]:
    """The fields of a form of ours, which is sent so often only: `Limit.LOGIN` where it can guess.

    Raises `Forbidden` if another site made the browser send it, `LimitExceeded`.
    """
    call.parts.rate_limits.take(limit, call.address)
    fields = await read_parameters(call)
    if not hmac.compare_digest(fields.get(CHECK, "").encode(), browser.form_check.encode()):
        raise Forbidden("This form is too old, or comes from elsewhere: go back and try again")
    return fields


async def read_parameters(call: Call) -> dict[str, str]:
    """The parameters of a body in `application/x-www-form-urlencoded`.

    Raises `TooLarge`, `InvalidParam`, and OAuthError if one is there twice.
    """
    body = await read_body(call.request, MAX_FORM_BYTES)
    return parsed(body.decode("utf-8", "replace"))


def parsed(text: str) -> dict[str, str]:
    try:
        return single(parse_qsl(text, keep_blank_values=True, max_num_fields=100))
    except ValueError:
        raise InvalidParam("Too many parameters") from None


def shows_errors(handler: PageHandler) -> PageHandler:
    """Errors of this page are pages too, but for: there is no such page."""

    @functools.wraps(handler)
    async def serve(call: Call) -> Response:
        try:
            return await handler(call)
        except Unrecognized:
            raise
        except MatrixError as error:
            # 401 would be a question for credentials that browsers have.
            status = 400 if error.status == 401 else error.status
            shown = page("This did not work", problem(error.message), status=status)
            shown.headers.update(error.headers)
            return shown

    return serve


def _is_secure(oauth: OAuthParts) -> bool:
    return oauth.base_url.startswith("https:")


def _cookie_name(oauth: OAuthParts) -> str:
    """With the prefix a browser takes the cookie from this very host by https only."""
    return "__Host-sign_in" if _is_secure(oauth) else "sign_in"
