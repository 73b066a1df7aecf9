"""Where the server listens, what it takes in and holds in memory, what it logs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from homeserver.config.section import Section, about


class Tls(Section, frozen=True):
    certificate: Annotated[Path, about("PEM file: the certificate and the chain below it.")]
    private_key: Annotated[Path, about("PEM file: the certificate's private key.")]


Resource = Literal["client", "federation", "metrics"]


class Listener(Section, frozen=True):
    address: Annotated[str, about("The address to listen on; 0.0.0.0 or :: for all.")] = "127.0.0.1"
    port: Annotated[
        Annotated[int, Meta(ge=0, le=65535)], about("The port; 0 lets the system choose one.")
    ] = 8008
    resources: Annotated[
        tuple[Resource, ...],
        about("What is served here: client (the client-server API), federation, metrics."),
    ] = ("client", "federation")
    x_forwarded: Annotated[
        bool,
        about("Behind a reverse proxy: take the caller's address from its X-Forwarded-For."),
    ] = False
    tls: Annotated[
        Tls | None, about("Serve HTTPS: {certificate: tls.crt, private_key: tls.key}.")
    ] = None

    def __post_init__(self) -> None:
        if not self.resources:
            raise ValueError("`resources` must name at least one of client, federation, metrics")


class Limits(Section, frozen=True):
    request_body: Annotated[
        Annotated[int, Meta(ge=65_536)], about("Largest JSON body of a client's request, in bytes.")
    ] = 1_048_576
    federation_body: Annotated[
        Annotated[int, Meta(ge=1_048_576)],
        about("Largest body of a request of another server, in bytes."),
    ] = 52_428_800
    json_depth: Annotated[
        Annotated[int, Meta(ge=10, le=500)], about("How deep the JSON of clients may be nested.")
    ] = 100


class Caches(Section, frozen=True):
    live_rooms: Annotated[
        Annotated[int, Meta(ge=10)], about("Rooms held in memory with their state and timeline.")
    ] = 2_000
    timeline_events: Annotated[
        Annotated[int, Meta(ge=20)], about("Newest events of each room held ready for /sync.")
    ] = 100
    events: Annotated[Annotated[int, Meta(ge=100)], about("Other events held in memory.")] = 20_000
    users: Annotated[
        Annotated[int, Meta(ge=10)], about("Local users held in memory with their rooms.")
    ] = 5_000
    access_tokens: Annotated[
        Annotated[int, Meta(ge=100)], about("Access tokens held in memory.")
    ] = 10_000
    remote_keys: Annotated[
        Annotated[int, Meta(ge=100)], about("Keys of other servers held in memory.")
    ] = 10_000


class Logging(Section, frozen=True):
    format: Annotated[
        Literal["console", "json"], about("console: for people; json: one object a line.")
    ] = "console"
    level: Annotated[
        Literal["debug", "info", "warning", "error"], about("From which importance on.")
    ] = "info"
