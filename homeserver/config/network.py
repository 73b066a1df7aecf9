"""Other servers, requests to the outside, and the files under /.well-known."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated

from homeserver.config.section import Section, about


class OldSigningKey(Section, frozen=True):
    key_id: Annotated[str, about("Such as ed25519:a_abcd.")]
    key: Annotated[str, about("The public key in unpadded base64.")]
    expired_ts: Annotated[int, about("When it was last used, in milliseconds since 1970.")]


class Federation(Section, frozen=True):
    enabled: Annotated[bool, about("Talk with other servers?")] = True
    resolve: Annotated[
        dict[str, str],
        about('For test peers: where a server is, instead of discovery: {hs2: "127.0.0.1:8449"}.'),
    ] = {}  # noqa: RUF012 - msgspec copies it
    allowed_servers: Annotated[
        tuple[str, ...] | None,
        about("Only these servers, `*` and `?` stand for any characters. Unset: every server."),
    ] = None
    denied_servers: Annotated[
        tuple[str, ...], about("Never these servers: [evil.example, *.evil.example].")
    ] = ()
    device_names: Annotated[
        bool, about("Tell other servers what users call their devices (Anna's phone)?")
    ] = False
    old_signing_keys: Annotated[
        tuple[OldSigningKey, ...],
        about("Keys that once signed our events: [{key_id, key, expired_ts}]."),
    ] = ()
    notaries: Annotated[
        tuple[str, ...],
        about("Servers that are asked for the keys of servers that don't answer: [matrix.org]."),
    ] = ()


class Outgoing(Section, frozen=True):
    ca_file: Annotated[
        Path | None, about("PEM file: further certificate authorities to trust.")
    ] = None
    verify_certificates: Annotated[bool, about("Never switch this off on the internet.")] = True
    allowed_private_ranges: Annotated[
        tuple[str, ...],
        about("Private addresses that may be reached all the same: [10.1.0.0/16]."),
    ] = ()

    def __post_init__(self) -> None:
        for network in self.allowed_private_ranges:
            ipaddress.ip_network(network)


class SupportContact(Section, frozen=True):
    role: Annotated[str, about("m.role.admin, m.role.security or m.role.dpo.")] = "m.role.admin"
    matrix_id: Annotated[str | None, about("Their Matrix id.")] = None
    email_address: Annotated[str | None, about("Their mail address.")] = None


class WellKnown(Section, frozen=True):
    client: Annotated[
        bool | None,
        about(
            "Serve /.well-known/matrix/client, which tells clients the public_baseurl."
            " Unset: if public_baseurl is set."
        ),
    ] = None
    server: Annotated[
        str | None,
        about("Serve /.well-known/matrix/server: where other servers find this one, host:port."),
    ] = None
    support_contacts: Annotated[
        tuple[SupportContact, ...],
        about("Served at /.well-known/matrix/support: whom to turn to."),
    ] = ()
    support_page: Annotated[str | None, about("A web page for people who need help.")] = None
