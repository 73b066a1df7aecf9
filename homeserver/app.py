"""The only place where the parts are built and joined, on what `cores` has running.

Rules of this file: what is opened here is pushed on the stack with how it is closed, so the end is
the beginning in reverse; no part learns of another but through its constructor.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import structlog
from msgspec import Struct, field

from homeserver import background
from homeserver.clock import now_ms
from homeserver.config import Config
from homeserver.cores import Cores, open_database, running_cores
from homeserver.federation import look_elsewhere, take_encryption_edus
from homeserver.http.authentication import Authentication
from homeserver.http.listeners import Listeners
from homeserver.http.metrics import Metrics
from homeserver.http.middleware import Doors
from homeserver.http.oauth.metadata import reset_url
from homeserver.http.origin import Origins
from homeserver.http.parts import Directories, Parts
from homeserver.http.rate_limits import Limit, RateLimits
from homeserver.http.routes import ROUTES
from homeserver.mail import Postman
from homeserver.protocol.signatures import Signer
from homeserver.remote.directory import RemoteDirectory
from homeserver.remote.hierarchy import RemoteHierarchy
from homeserver.remote.strangers import Strangers
from homeserver.services.account_data import AccountData
from homeserver.services.accounts import AccountObservers, Accounts, Deactivated, PasswordStage
from homeserver.services.app_services.parts import AppServiceParts
from homeserver.services.delayed_events import DelayedEvents
from homeserver.services.departures import Departures
from homeserver.services.devices import Devices
from homeserver.services.directory import Directory, OtherDirectories
from homeserver.services.encryption.parts import EncryptionParts, encryption_parts
from homeserver.services.filters import Filters
from homeserver.services.history import History
from homeserver.services.last_seen import LastSeen
from homeserver.services.login_tokens import LoginTokens
from homeserver.services.mail_validation import MAIL, MailStage, MailValidation
from homeserver.services.membership import Membership
from homeserver.services.oauth.parts import OAuthParts, oauth_parts
from homeserver.services.oauth.resets import STAGES, OAuthStage
from homeserver.services.old_sync import OldSync
from homeserver.services.openid import OpenIdTokens
from homeserver.services.profiles import Profiles
from homeserver.services.pruning import Pruning
from homeserver.services.push_rule_settings import PushRuleSettings
from homeserver.services.receipts import Receipts
from homeserver.services.registration import Registered, Registration, RegistrationTokenStage
from homeserver.services.relations import Relations
from homeserver.services.replacements import Replacements
from homeserver.services.reports import Reports
from homeserver.services.room_state import RoomState
from homeserver.services.room_summaries import RoomSummaries
from homeserver.services.rooms import Rooms
from homeserver.services.search import Search
from homeserver.services.server_notices import ServerNotices
from homeserver.services.sessions import DevicesDeleted, Sessions
from homeserver.services.shared_secret import SharedSecret
from homeserver.services.spaces import Spaces
from homeserver.services.thread_subscriptions import ThreadSubscriptions
from homeserver.services.upgrades import Upgrades
from homeserver.services.user_directory import UserDirectory
from homeserver.services.user_interactive import Dummy, Stage, UserInteractive
from homeserver.store.database import Database
from homeserver.stream.alias_names import AliasClaims, AliasNames
from homeserver.stream.client_state import ClientState
from homeserver.stream.core import StreamCore

log = structlog.get_logger()


class Homeserver(Struct, frozen=True):
    """A running server, as whoever started it sees it."""

    config: Config
    database: Database
    urls: list[str]
    """Where each listener can be reached, in the order of the config."""
    first_admin_token: str | None
    """With it the owner of a server without accounts makes the first one."""
    reload: Callable[[], bool]
    """Reads the registrations of application services again."""
    stream: StreamCore
    """For tests that look into memory, or throw parts of it away."""


class Observers(Struct, frozen=True):
    """Who is told what becomes of accounts and devices, in this order."""

    registered: list[Registered] = field(default_factory=list)
    deactivated: list[Deactivated] = field(default_factory=list)
    devices_deleted: list[DevicesDeleted] = field(default_factory=list)


@asynccontextmanager
async def running(config: Config) -> AsyncIterator[Homeserver]:
    """The whole server, listening; it ends cleanly with the block.

    Raises EmbeddedError, MigrationError, Unavailable or OSError if it can't be started.
    """
    async with AsyncExitStack() as stack:
        config.data_dir.mkdir(parents=True, exist_ok=True)
        database = await open_database(config, stack)
        metrics = Metrics()
        background.beside(stack, metrics.watch_event_loop)
        last_seen = LastSeen(database, now_ms)
        stack.push_async_callback(last_seen.flush)
        background.beside(stack, last_seen.run)
        cores = await running_cores(config, database, metrics, stack)
        stream, remote = cores.stream, cores.remote
        parts = _parts(config, database, metrics, last_seen, cores)
        background.beside(stack, _pruning(config, database, parts).run)
        background.beside(stack, Departures(database, stream).finish)
        stack.push_async_callback(parts.profiles.stop)
        _follow_replacements(database, stream, parts, stack)
        stack.push_async_callback(parts.encryption.stop)
        await parts.delayed_events.start()
        stack.push_async_callback(parts.delayed_events.stop)
        _join_federation(cores, parts)
        doors = Doors(
            parts=parts,
            authentication=Authentication(
                parts.sessions,
                cores.app_services.masquerade.requester,
                last_seen.note,
                config.query_string_access_tokens,
            ),
            admit_origin=Origins(
                config.server_name,
                remote.keyring,
                remote.access,
                remote.availability,
                Strangers(now_ms),
            ).admit,
            rate_limits=parts.rate_limits,
            metrics=metrics,
        )
        listeners = Listeners(config, doors, ROUTES)
        stack.push_async_callback(listeners.finish)
        await listeners.start()
        stack.push_async_callback(listeners.close)
        # Before the listeners wait for open requests: long polls answer at once.
        stack.callback(stream.close_long_polls)
        yield Homeserver(
            config=config,
            database=database,
            urls=listeners.urls(),
            reload=cores.app_services.registry.reload,
            first_admin_token=await parts.registration.first_admin_token(),
            stream=stream,
        )


def _join_federation(cores: Cores, parts: Parts) -> None:
    """What other servers tell goes to the parts, and the parts ask other servers."""
    take_encryption_edus(cores.federation.edus, parts.encryption)
    look_elsewhere(
        parts.directories.spaces,
        parts.directories.summaries,
        RemoteHierarchy(cores.remote.client),
    )
    parts.history.event_elsewhere = cores.federation.inbound.backfill.event_at


def _pruning(config: Config, database: Database, parts: Parts) -> Pruning:
    days = config.sessions.unseen_device_days
    return Pruning(database, parts.sessions.delete_devices, days, now_ms)


def _parts(
    config: Config, database: Database, metrics: Metrics, last_seen: LastSeen, cores: Cores
) -> Parts:
    stream = cores.stream
    rate_limits = RateLimits(config.rate_limits)
    observers = _observers(cores)
    sessions = _sessions(config, database, stream, observers)
    accounts = _accounts(config, database, rate_limits, sessions, observers, cores.app_services)
    registration = _registration(config, database, observers, cores.app_services)
    mail_validation = _mail_validation(config, database, stream.sender.signer)
    profiles = Profiles(database, stream, config.server_name)
    directories = _directories(config, database, cores)
    observers.registered.append(profiles.registered)
    delayed_events = _delayed_events(database, stream, directories, observers)
    encryption = _encryption(config, database, cores, observers)
    observers.deactivated.append(Departures(database, stream).account_ended)
    oauth = oauth_parts(config, database, now_ms)
    return Parts(
        config=config,
        metrics=metrics,
        rate_limits=rate_limits,
        sessions=sessions,
        last_seen=last_seen,
        devices=Devices(database, stream.device_lists),
        accounts=accounts,
        registration=registration,
        shared_secret=SharedSecret(config.registration.shared_secret, now_ms),
        login_tokens=LoginTokens(now_ms),
        openid_tokens=OpenIdTokens(now_ms),
        mail_validation=mail_validation,
        user_interactive=_user_interactive(accounts, registration, mail_validation, oauth),
        stream=stream,
        history=History(stream.reading),
        search=Search(stream),
        search_index=cores.search_index,
        reports=Reports(database, stream.reading, config.server_name, now_ms),
        delayed_events=delayed_events,
        relations=Relations(stream.reading, stream.ignored_users),
        old_sync=OldSync(database, stream, now_ms),
        room_state=RoomState(stream.reading, stream.whole_rooms),
        federation=cores.federation,
        rooms=Rooms(config, database, stream, directories.aliases, now_ms),
        directories=directories,
        membership=Membership(database, stream),
        filters=Filters(database),
        profiles=profiles,
        account_data=AccountData(database, stream.writer),
        media=cores.media,
        previews=cores.previews,
        receipts=Receipts(database, stream),
        thread_subscriptions=ThreadSubscriptions(database, stream),
        push=cores.push,
        server_notices=ServerNotices(config, database, stream, now_ms),
        app_services=cores.app_services,
        push_rule_settings=PushRuleSettings(stream.push_rules, stream.writer),
        encryption=encryption,
        oauth=oauth,
    )


def _delayed_events(
    database: Database, stream: StreamCore, directories: Directories, observers: Observers
) -> DelayedEvents:
    delayed_events = DelayedEvents(database, stream, directories.state, now_ms)
    observers.deactivated.append(delayed_events.account_ended)
    return delayed_events


def _encryption(
    config: Config, database: Database, cores: Cores, observers: Observers
) -> EncryptionParts:
    encryption = encryption_parts(database, cores.stream, cores.remote.client, config, now_ms)
    observers.deactivated.append(encryption.account_ended)
    return encryption


def _mail_validation(config: Config, database: Database, signer: Signer) -> MailValidation:
    return MailValidation(database, Postman(config.mail), signer, config.public_baseurl, now_ms)


def _observers(cores: Cores) -> Observers:
    """With those who run already; the others join as they are built."""
    observers = Observers()
    observers.devices_deleted.append(cores.push.pushers.devices_deleted)
    observers.devices_deleted.append(cores.app_services.masquerade.devices_deleted)
    return observers


def _registration(
    config: Config, database: Database, observers: Observers, app_services: AppServiceParts
) -> Registration:
    return Registration(
        database,
        config.server_name,
        config.registration,
        now_ms,
        observers.registered,
        lambda user_id: app_services.registry.owner_of_user(user_id) is not None,
    )


def _follow_replacements(
    database: Database, stream: StreamCore, parts: Parts, stack: AsyncExitStack
) -> None:
    """Who joins the replacement of a room finds their tags and push rules there."""
    transfers = (parts.account_data.follow_upgrade, parts.push_rule_settings.follow_upgrade)
    replacements = Replacements(database, stream, transfers)
    stream.writer.on_publish(replacements.published)
    background.beside(stack, replacements.run)


def _directories(config: Config, database: Database, cores: Cores) -> Directories:
    stream = cores.stream
    remote = RemoteDirectory(cores.remote.client)
    services = cores.app_services
    claims = AliasClaims(
        owner_of=services.registry.id_of_alias_owner,
        ask=services.questions.make_alias,
        added=services.sender.interest.add_alias,
    )
    aliases = AliasNames(database, stream.rooms, remote, config.server_name, claims)
    return Directories(
        own=Directory(database, stream, aliases, now_ms),
        others=OtherDirectories(remote),
        aliases=aliases,
        spaces=Spaces(database, stream.rooms, stream.users),
        summaries=RoomSummaries(database, stream.users),
        people=UserDirectory(database),
        upgrades=Upgrades(database, stream, now_ms),
        state=ClientState(stream.rooms, stream.sender, aliases),
    )


def _sessions(
    config: Config, database: Database, stream: StreamCore, observers: Observers
) -> Sessions:
    return Sessions(
        database,
        stream.device_lists,
        now_ms,
        config.sessions.access_token_lifetime * 1000,
        config.caches.access_tokens,
        observers.devices_deleted,
    )


def _accounts(
    config: Config,
    database: Database,
    rate_limits: RateLimits,
    sessions: Sessions,
    observers: Observers,
    app_services: AppServiceParts,
) -> Accounts:
    observers.deactivated.append(lambda user_id, _: sessions.delete_all_devices(user_id))
    return Accounts(
        database,
        config.server_name,
        config.password,
        AccountObservers(
            on_password_tried=partial(rate_limits.take, Limit.LOGIN),
            on_changed=lambda user_id: _forget(user_id, sessions, app_services),
            on_deactivated=observers.deactivated,
        ),
        now_ms,
    )


def _forget(user_id: str, sessions: Sessions, app_services: AppServiceParts) -> None:
    """An account has changed: whoever remembers its rights looks it up anew."""
    sessions.forget_user(user_id)
    app_services.masquerade.forget_user(user_id)


def _user_interactive(
    accounts: Accounts,
    registration: Registration,
    mail_validation: MailValidation,
    oauth: OAuthParts | None,
) -> UserInteractive:
    stages: dict[str, Stage] = {
        "m.login.dummy": Dummy(),
        "m.login.password": PasswordStage(accounts),
        MAIL: MailStage(mail_validation),
        "m.login.registration_token": RegistrationTokenStage(registration),
    }
    if oauth is not None:
        stage = OAuthStage(oauth.resets, reset_url(oauth))
        stages.update(dict.fromkeys(STAGES, stage))
    return UserInteractive(stages, now_ms)
