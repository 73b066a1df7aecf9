"""Who may have an account, log in, and do how much; what the server tells them."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from homeserver.config.section import Section, about


class Registration(Section, frozen=True):
    enabled: Annotated[bool, about("May people make accounts for themselves?")] = False
    requires_token: Annotated[
        bool, about("Only with a registration token that an admin has made.")
    ] = True
    shared_secret: Annotated[
        str | None,
        about("Who knows this secret makes accounts: `homeserver register` and other tools."),
    ] = None
    guests: Annotated[bool, about("May people look around without an account?")] = False


class Password(Section, frozen=True):
    bcrypt_rounds: Annotated[
        Annotated[int, Meta(ge=4, le=20)],
        about("The cost of one password check: each round more doubles it (12: a quarter second)."),
    ] = 12
    minimum_length: Annotated[
        Annotated[int, Meta(ge=1, le=72)], about("New passwords have at least so many characters.")
    ] = 1


class Mail(Section, frozen=True):
    host: Annotated[
        str | None,
        about("Your mail server. Unset: no mail is sent, and nobody confirms a mail address."),
    ] = None
    port: Annotated[Annotated[int, Meta(ge=1, le=65535)], about("Its port.")] = 587
    security: Annotated[
        Literal["starttls", "tls", "none"], about("How the connection is encrypted.")
    ] = "starttls"
    user: Annotated[str | None, about("The name to log in with there; unset: no login.")] = None
    password: Annotated[str | None, about("And its password.")] = None
    sender: Annotated[str, about("Who letters come from: Our server <noreply@example.org>.")] = ""
    timeout: Annotated[
        Annotated[float, Meta(gt=0, le=300)], about("Seconds until it must have answered.")
    ] = 20

    def __post_init__(self) -> None:
        if self.host is not None and "@" not in self.sender:
            raise ValueError("`sender` must be a mail address if there is a `host`")


class Sessions(Section, frozen=True):
    access_token_lifetime: Annotated[
        Annotated[int, Meta(ge=1)],
        about("Seconds until a token must be refreshed, for clients that can refresh theirs."),
    ] = 3600
    unseen_device_days: Annotated[
        Annotated[int, Meta(ge=30)] | None,
        about("Devices that weren't seen for so many days are logged out; null: never."),
    ] = None


class OAuth(Section, frozen=True):
    enabled: Annotated[
        bool,
        about(
            "Let clients log in by OAuth 2.0, on web pages of this server, beside /login."
            " Needs public_baseurl."
        ),
    ] = False
    browser_session_lifetime: Annotated[
        Annotated[int, Meta(ge=60)], about("Seconds that a browser stays signed in on these pages.")
    ] = 3600


class RateLimit(Section, frozen=True):
    per_second: Annotated[Annotated[float, Meta(gt=0)], about("So many a second, in the long run.")]
    burst: Annotated[Annotated[int, Meta(ge=1)], about("So many at once.")]


class RateLimits(Section, frozen=True):
    enabled: Annotated[bool, about("Switch off for test peers and benchmarks only.")] = True
    default: Annotated[RateLimit, about("Ordinary requests, per user.")] = RateLimit(
        per_second=50, burst=200
    )
    message: Annotated[RateLimit, about("Sent events, per user.")] = RateLimit(
        per_second=10, burst=50
    )
    login: Annotated[RateLimit, about("Logins and password checks, per address and account.")] = (
        RateLimit(per_second=0.2, burst=10)
    )
    registration: Annotated[RateLimit, about("New accounts, per address.")] = RateLimit(
        per_second=0.1, burst=5
    )
    media: Annotated[RateLimit, about("Uploads and link previews, per user.")] = RateLimit(
        per_second=5, burst=100
    )
    room: Annotated[RateLimit, about("Created and joined rooms, invites, per user.")] = RateLimit(
        per_second=1, burst=20
    )
    federation: Annotated[RateLimit, about("Requests of other servers, per server.")] = RateLimit(
        per_second=50, burst=500
    )


class Rooms(Section, frozen=True):
    forget_on_leave: Annotated[
        bool, about("Who leaves a room, or is removed from it, forgets it at once.")
    ] = False


class Presence(Section, frozen=True):
    enabled: Annotated[bool, about("Tell people who is online (costs some work).")] = True


class ServerNotices(Section, frozen=True):
    localpart: Annotated[
        str | None,
        about("The user in whose name the server talks to its users; unset: it doesn't."),
    ] = None
    display_name: Annotated[str, about("That user's name.")] = "Server Notices"
    avatar_url: Annotated[str | None, about("That user's picture: mxc://...")] = None
    room_name: Annotated[str, about("The name of each user's room with it.")] = "Server Notices"
