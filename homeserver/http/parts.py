"""The long-lived parts that handlers use. They are built in `app.py` and stop at this door."""

from __future__ import annotations

from msgspec import Struct

from homeserver.config import Config
from homeserver.http.federation.parts import FederationParts
from homeserver.http.metrics import Metrics
from homeserver.http.rate_limits import RateLimits
from homeserver.services.account_data import AccountData
from homeserver.services.accounts import Accounts
from homeserver.services.app_services.parts import AppServiceParts
from homeserver.services.delayed_events import DelayedEvents
from homeserver.services.devices import Devices
from homeserver.services.directory import Directory, OtherDirectories
from homeserver.services.encryption.parts import EncryptionParts
from homeserver.services.filters import Filters
from homeserver.services.history import History
from homeserver.services.last_seen import LastSeen
from homeserver.services.login_tokens import LoginTokens
from homeserver.services.mail_validation import MailValidation
from homeserver.services.media.parts import MediaParts
from homeserver.services.membership import Membership
from homeserver.services.oauth.parts import OAuthParts
from homeserver.services.old_sync import OldSync
from homeserver.services.openid import OpenIdTokens
from homeserver.services.previews.previews import Previews
from homeserver.services.profiles import Profiles
from homeserver.services.push.parts import PushParts
from homeserver.services.push_rule_settings import PushRuleSettings
from homeserver.services.receipts import Receipts
from homeserver.services.registration import Registration
from homeserver.services.relations import Relations
from homeserver.services.reports import Reports
from homeserver.services.room_state import RoomState
from homeserver.services.room_summaries import RoomSummaries
from homeserver.services.rooms import Rooms
from homeserver.services.search import Search
from homeserver.services.search_index import SearchIndex
from homeserver.services.server_notices import ServerNotices
from homeserver.services.sessions import Sessions
from homeserver.services.shared_secret import SharedSecret
from homeserver.services.spaces import Spaces
from homeserver.services.thread_subscriptions import ThreadSubscriptions
from homeserver.services.upgrades import Upgrades
from homeserver.services.user_directory import UserDirectory
from homeserver.services.user_interactive import UserInteractive
from homeserver.stream.alias_names import AliasNames
from homeserver.stream.client_state import ClientState
from homeserver.stream.core import StreamCore


class Directories(Struct, frozen=True):
    """What finds rooms and people, and the state by which rooms want to be found."""

    own: Directory
    others: OtherDirectories
    aliases: AliasNames
    spaces: Spaces
    summaries: RoomSummaries
    people: UserDirectory
    upgrades: Upgrades
    state: ClientState


class Parts(Struct, frozen=True):
    """What `call.parts` offers. A new part is one more field here and one more line in `app.py`."""

    config: Config
    metrics: Metrics
    stream: StreamCore
    rooms: Rooms
    directories: Directories
    history: History
    relations: Relations
    delayed_events: DelayedEvents
    reports: Reports
    search: Search
    search_index: SearchIndex
    old_sync: OldSync
    room_state: RoomState
    membership: Membership
    filters: Filters
    profiles: Profiles
    account_data: AccountData
    receipts: Receipts
    thread_subscriptions: ThreadSubscriptions
    media: MediaParts
    previews: Previews
    federation: FederationParts
    push_rule_settings: PushRuleSettings
    push: PushParts
    server_notices: ServerNotices
    app_services: AppServiceParts
    rate_limits: RateLimits
    sessions: Sessions
    devices: Devices
    last_seen: LastSeen
    accounts: Accounts
    registration: Registration
    shared_secret: SharedSecret
    login_tokens: LoginTokens
    openid_tokens: OpenIdTokens
    user_interactive: UserInteractive
    mail_validation: MailValidation
    encryption: EncryptionParts
    oauth: OAuthParts | None
    """None if the config doesn't offer it."""
