"""Every option of the server: its name, type, default, check and explanation, each said once.

Rules of this file: a section is a frozen struct; an explanation is the `description` of its field
and feeds `homeserver generate-config`; a check is a type, a `Meta` bound or a `__post_init__` that
raises ValueError. How a file is read into these types: `config_file.py`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from homeserver.config.media import Media, Previews
from homeserver.config.network import Federation, OldSigningKey, Outgoing, WellKnown
from homeserver.config.notifications import Push, Voip
from homeserver.config.people import (
    Mail,
    OAuth,
    Password,
    Presence,
    RateLimit,
    RateLimits,
    Registration,
    Rooms,
    ServerNotices,
    Sessions,
)
from homeserver.config.process import Caches, Limits, Listener, Logging, Tls
from homeserver.config.section import Section, about

__all__ = [
    "EMBEDDED",
    "Caches",
    "Config",
    "Federation",
    "Limits",
    "Listener",
    "Logging",
    "Mail",
    "Media",
    "OAuth",
    "OldSigningKey",
    "Outgoing",
    "Password",
    "Presence",
    "Previews",
    "Push",
    "RateLimit",
    "RateLimits",
    "Registration",
    "Rooms",
    "ServerNotices",
    "Sessions",
    "Tls",
    "Voip",
    "WellKnown",
    "local_config",
]

SERVER_NAME = re.compile(r"(?:[0-9A-Za-z.-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
EMBEDDED = "embedded"


class Config(Section, frozen=True):
    """All options. Paths are absolute: a relative one is relative to the config file."""

    server_name: Annotated[
        str,
        about(
            "The name in your users' ids: @alice:example.org. It can't be changed later."
            " Usually your domain, not the host's own name."
        ),
    ]
    public_baseurl: Annotated[
        str | None, about("Where clients reach this server from outside.")
    ] = None
    data_dir: Annotated[Path, about("Holds the signing key, media and the embedded Postgres.")] = (
        Path("data")
    )
    signing_key: Annotated[
        Path | None,
        about("File of the key that signs our events. Unset: signing.key in data_dir, made once."),
    ] = None
    database: Annotated[
        str,
        about(
            "`embedded`: the server runs a PostgreSQL of its own in data_dir/postgres;"
            " or postgresql://user:password@host:5432/name."
        ),
    ] = EMBEDDED
    database_connections: Annotated[
        Annotated[int, Meta(ge=3, le=500)], about("Connections to Postgres at most.")
    ] = 16
    listeners: Annotated[
        tuple[Listener, ...], about("Where the server listens, each with its own resources.")
    ] = (Listener(),)
    registration: Annotated[Registration, about("Who may make accounts.")] = Registration()
    password: Annotated[Password, about("Passwords.")] = Password()
    mail: Annotated[Mail, about("Mail to users: to confirm addresses, for lost passwords.")] = (
        Mail()
    )
    sessions: Annotated[Sessions, about("Logged-in devices.")] = Sessions()
    oauth: Annotated[OAuth, about("The OAuth 2.0 API, for clients that prefer it.")] = OAuth()
    query_string_access_tokens: Annotated[
        bool, about("Accept ?access_token=…, which the specification deprecates.")
    ] = True
    rate_limits: Annotated[RateLimits, about("How much one user, address or server may ask.")] = (
        RateLimits()
    )
    limits: Annotated[Limits, about("Sizes of what is taken in.")] = Limits()
    default_room_version: Annotated[str, about("The version of new rooms.")] = "12"
    rooms: Annotated[Rooms, about("Rooms.")] = Rooms()
    presence: Annotated[Presence, about("Who is online.")] = Presence()
    application_services: Annotated[
        tuple[Path, ...], about("Registration files of bridges and bots: [bridge.yaml].")
    ] = ()
    federation: Annotated[Federation, about("Other servers.")] = Federation()
    outgoing: Annotated[
        Outgoing, about("Every request to the outside: federation, media, push, bridges.")
    ] = Outgoing()
    media: Annotated[Media, about("Uploaded and fetched files.")] = Media()
    previews: Annotated[Previews, about("Previews of links.")] = Previews()
    well_known: Annotated[WellKnown, about("The /.well-known/matrix files.")] = WellKnown()
    server_notices: Annotated[ServerNotices, about("What the server tells its users.")] = (
        ServerNotices()
    )
    push: Annotated[Push, about("Notifications of apps.")] = Push()
    voip: Annotated[Voip, about("Calls.")] = Voip()
    caches: Annotated[Caches, about("How much is held in memory.")] = Caches()
    logging: Annotated[Logging, about("Logs go to standard error.")] = Logging()

    def __post_init__(self) -> None:
        if not SERVER_NAME.fullmatch(self.server_name) or len(self.server_name) > 230:
            raise ValueError(
                "`server_name` must be a host name, with a port where needed,"
                f" not {self.server_name!r}"
            )
        if not re.match(r"embedded$|postgres(ql)?://", self.database):
            raise ValueError("`database` must be `embedded` or a postgresql:// URL")
        if self.public_baseurl and not re.match(r"https?://[^/]+", self.public_baseurl):
            raise ValueError("`public_baseurl` must begin with https:// (or http://)")
        if self.oauth.enabled and not self.public_baseurl:
            raise ValueError("`oauth` needs `public_baseurl`: where its pages are")

    @property
    def signing_key_path(self) -> Path:
        """Where the signing key is, or will be made."""
        return self.signing_key or self.data_dir / "signing.key"


def local_config(data_dir: Path) -> Config:
    """The server without a config file: only for this machine, open to everybody on it."""
    return Config(
        server_name="localhost",
        data_dir=data_dir.absolute(),
        registration=Registration(enabled=True, requires_token=False),
        rate_limits=RateLimits(enabled=False),  # strangers can't reach it
    )
