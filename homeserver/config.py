"""Every option of the server: its name, type, default, check and explanation, each said once.

Rules of this file: a section is a frozen struct; an explanation is the `description` of its field
and feeds `homeserver generate-config`; a check is a type, a `Meta` bound or a `__post_init__` that
raises ValueError. How a file is read into these types: `config_file.py`.
"""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct

SERVER_NAME = re.compile(r"(?:[0-9A-Za-z.-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
EMBEDDED = "embedded"


def about(text: str) -> Meta:
    """The explanation of an option, as the generated config shows it."""
    return Meta(description=text)


class Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all sections of the config share: immutable, by name only, no unknown keys."""


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


class OldSigningKey(Section, frozen=True):
    key_id: Annotated[str, about("Such as ed25519:a_abcd.")]
    key: Annotated[str, about("The public key in unpadded base64.")]
    expired_ts: Annotated[int, about("When it was last used, in milliseconds since 1970.")]


class Federation(Section, frozen=True):
    enabled: Annotated[bool, about("Talk with other servers?")] = True
    resolve: Annotated[
        dict[str, str],
        about('For test peers: where a server is, instead of discovery: {hs2: "127.0.0.1:8449"}.'),
    ] = {}
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


Size = Annotated[int, Meta(ge=0)]


class Media(Section, frozen=True):
    store: Annotated[
        str,
        about(
            "Where the bytes are: `local` (data_dir/media), or the URL of an object store:"
            " s3://bucket/folder, gs://bucket/folder, az://container/folder."
        ),
    ] = "local"
    store_options: Annotated[
        dict[str, str],
        about(
            "For an object store: region, endpoint, access_key_id, secret_access_key, ..."
            " (what isn't set comes from the cloud's usual environment variables)."
        ),
    ] = {}
    max_upload_size: Annotated[Size, about("Largest upload, in bytes.")] = 104_857_600
    max_remote_size: Annotated[
        Size, about("Largest file that is fetched from another server, in bytes.")
    ] = 104_857_600
    max_image_pixels: Annotated[
        Annotated[int, Meta(ge=1_000_000)],
        about("Pictures with more pixels get no thumbnails (memory: up to 5 bytes a pixel)."),
    ] = 40_000_000
    unauthenticated_paths: Annotated[
        Literal["closed", "frozen", "open"],
        about(
            "The old download paths, open to everybody without login. frozen: only what came"
            " while they were open; open: everything, also what comes from now on."
        ),
    ] = "closed"
    public: Annotated[
        tuple[str, ...],
        about("Always open to everybody, such as the icons of login providers: [mxc://...]."),
    ] = ()
    user_quota: Annotated[
        Size | None, about("How much one user may have stored, in bytes; null: no limit.")
    ] = None
    pending_uploads: Annotated[
        Annotated[int, Meta(ge=1)],
        about("How many uploads of one user may be announced and not yet made."),
    ] = 20
    pending_upload_lifetime: Annotated[
        Annotated[int, Meta(ge=1)], about("Seconds until an announced upload must be made.")
    ] = 86_400
    fetch_seconds: Annotated[
        Annotated[int, Meta(ge=1)], about("So long may fetching a remote file take.")
    ] = 300
    remote_unused_days: Annotated[
        Annotated[float, Meta(gt=0)] | None,
        about(
            "Copies of remote files go when nobody asked for them for so many days;"
            " they are fetched again when somebody does. null: never."
        ),
    ] = 90
    remote_cache_size: Annotated[
        Size | None,
        about("Copies of remote files may be so large together, in bytes; null: no limit."),
    ] = None
    local_unused_days: Annotated[
        Annotated[float, Meta(gt=0)] | None,
        about("Uploads go for ever when nobody asked for them for so many days; null: never."),
    ] = None
    local_lifetime_days: Annotated[
        Annotated[float, Meta(gt=0)] | None,
        about("Uploads go for ever after so many days; null: never."),
    ] = None
    delete_redacted: Annotated[
        bool,
        about("Delete an upload when its sender's last (unencrypted) event with it is redacted."),
    ] = True
    memory_cache: Annotated[
        Size, about("Small files and thumbnails held in memory, in bytes together.")
    ] = 16_777_216

    def __post_init__(self) -> None:
        if not re.match(r"local$|(s3a?|gs|az|azure|adl|abfss?)://.", self.store):
            raise ValueError("`store` must be `local` or begin with s3://, gs:// or az://")
        for uri in self.public:
            if not uri.startswith("mxc://"):
                raise ValueError("`public` holds content URIs: mxc://server/id")


class Previews(Section, frozen=True):
    enabled: Annotated[bool, about("Fetch pages that users link to, for a preview.")] = True
    allowed_hosts: Annotated[
        tuple[str, ...],
        about('Only these hosts: [example.org, "*.wikipedia.org"]; empty: all but denied_hosts.'),
    ] = ()
    denied_hosts: Annotated[tuple[str, ...], about('Never these hosts: ["*.example.net"].')] = ()
    max_page_size: Annotated[
        Annotated[int, Meta(ge=1024)], about("So much of a page is read, in bytes.")
    ] = 2_097_152
    max_image_size: Annotated[
        Size, about("Larger pictures are left out of a preview, in bytes.")
    ] = 10_485_760
    seconds: Annotated[
        Annotated[float, Meta(gt=0)], about("So long may fetching one page take.")
    ] = 15
    lifetime: Annotated[
        Annotated[int, Meta(ge=1, le=1_000_000)], about("Seconds for which a preview is kept.")
    ] = 86_400
    accept_language: Annotated[str, about("In which language pages are asked for.")] = "en"
    user_agent: Annotated[str, about("As what pages are asked for.")] = (
        "Mozilla/5.0 (compatible; homeserver; link previews; bot)"
    )


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


class ServerNotices(Section, frozen=True):
    localpart: Annotated[
        str | None,
        about("The user in whose name the server talks to its users; unset: it doesn't."),
    ] = None
    display_name: Annotated[str, about("That user's name.")] = "Server Notices"
    avatar_url: Annotated[str | None, about("That user's picture: mxc://...")] = None
    room_name: Annotated[str, about("The name of each user's room with it.")] = "Server Notices"


class Push(Section, frozen=True):
    require_https: Annotated[
        bool, about("Push gateways only by https; switch off for test peers only.")
    ] = True
    thread_subscriptions: Annotated[
        bool,
        about(
            "Messages in threads notify who is subscribed to the thread (MSC4306) and who is"
            " mentioned, nobody else: not people whose apps know no subscriptions."
        ),
    ] = False
    legacy_mentions: Annotated[
        bool,
        about(
            "A name or @room in the text notifies as a mention, as before specification 1.17,"
            " where the message doesn't say by itself whom it mentions."
        ),
    ] = False


class Voip(Section, frozen=True):
    turn_uris: Annotated[
        tuple[str, ...],
        about("TURN servers for calls: [turn:turn.example.org:3478?transport=udp]."),
    ] = ()
    turn_shared_secret: Annotated[
        str | None, about("The TURN server's static-auth-secret, to make credentials from.")
    ] = None
    turn_username: Annotated[str | None, about("Instead of the secret: one name for all.")] = None
    turn_password: Annotated[str | None, about("Its password.")] = None
    turn_lifetime: Annotated[
        Annotated[int, Meta(ge=60)], about("Seconds that credentials are good for.")
    ] = 86_400
    turn_guests: Annotated[bool, about("May guests make calls?")] = False
    livekit_service_url: Annotated[
        str | None,
        about("For Element Call: where the authorisation service of a LiveKit server is."),
    ] = None

    @property
    def rtc_transports(self) -> list[dict[str, str]]:
        """Where MatrixRTC calls may go through (MSC4143, MSC4195)."""
        if self.livekit_service_url is None:
            return []
        return [{"type": "livekit", "livekit_service_url": self.livekit_service_url}]


class Limits(Section, frozen=True):
    request_body: Annotated[
        Annotated[int, Meta(ge=65_536)], about("Largest JSON body of a client's request, in bytes.")
    ] = 1_048_576
    federation_body: Annotated[
        Annotated[int, Meta(ge=1_048_576)],
        about("Largest body of a request of another server, in bytes."),
    ] = 52_428_800
    json_depth: Annotated[
        Annotated[int, Meta(ge=10, le=500)], about("How deep JSON may be nested.")
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
    admin_contact: Annotated[
        str | None, about("How to reach the admin, for users: mailto:admin@example.org.")
    ] = None
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
