"""Every route that the server has: the endpoints of each file, one line each, by chapter."""

from __future__ import annotations

from homeserver.http import monitoring, well_known
from homeserver.http.admin import registration as admin_registration
from homeserver.http.admin import server_notices
from homeserver.http.client import (
    account,
    account_data,
    admin,
    app_services,
    auth_fallback,
    capabilities,
    cross_signing,
    dehydrated_devices,
    delayed_events,
    device_keys,
    devices,
    directory,
    discovery,
    history,
    key_backup,
    login,
    login_fallback,
    membership,
    old_sync,
    openid,
    participation,
    presence,
    profiles,
    push_rules,
    pushers,
    registration,
    relations,
    reports,
    room_state,
    rooms,
    search,
    sending,
    sliding_sync,
    spaces,
    sync,
    thread_subscriptions,
    threepids,
    to_device,
    user_directory,
    voip,
)
from homeserver.http.endpoint import Endpoints
from homeserver.http.federation import events as federation_events
from homeserver.http.federation import keys, queries, transactions, version
from homeserver.http.federation import media as federation_media
from homeserver.http.federation import membership as federation_membership
from homeserver.http.federation import openid as federation_openid
from homeserver.http.federation import third_party_invites as federation_third_party_invites
from homeserver.http.media import downloads as media_downloads
from homeserver.http.media import previews as media_previews
from homeserver.http.media import uploads as media_uploads
from homeserver.http.oauth import account as oauth_account
from homeserver.http.oauth import account_devices as oauth_account_devices
from homeserver.http.oauth import authorize as oauth_authorize
from homeserver.http.oauth import clients as oauth_clients
from homeserver.http.oauth import device as oauth_device
from homeserver.http.oauth import lost_password as oauth_lost_password
from homeserver.http.oauth import metadata as oauth_metadata
from homeserver.http.oauth import sign_in as oauth_sign_in
from homeserver.http.oauth import sso as oauth_sso
from homeserver.http.oauth import token as oauth_token

ROUTES: tuple[Endpoints, ...] = (
    discovery.pages,
    discovery.endpoints,
    well_known.endpoints,
    registration.endpoints,
    login.endpoints,
    login_fallback.endpoints,
    auth_fallback.endpoints,
    oauth_account.endpoints,
    oauth_account_devices.endpoints,
    oauth_device.endpoints,
    oauth_lost_password.endpoints,
    oauth_metadata.endpoints,
    oauth_metadata.documents,
    oauth_clients.endpoints,
    oauth_authorize.endpoints,
    oauth_sign_in.endpoints,
    oauth_sso.endpoints,
    oauth_sso.pages,
    oauth_token.endpoints,
    account.endpoints,
    threepids.endpoints,
    threepids.pages,
    devices.endpoints,
    capabilities.endpoints,
    profiles.endpoints,
    account_data.endpoints,
    openid.endpoints,
    federation_openid.endpoints,
    voip.endpoints,
    admin.endpoints,
    rooms.endpoints,
    directory.endpoints,
    spaces.endpoints,
    user_directory.endpoints,
    room_state.endpoints,
    history.endpoints,
    relations.endpoints,
    reports.endpoints,
    search.endpoints,
    delayed_events.endpoints,
    old_sync.endpoints,
    sending.endpoints,
    membership.endpoints,
    participation.endpoints,
    presence.endpoints,
    push_rules.endpoints,
    pushers.endpoints,
    app_services.endpoints,
    media_uploads.endpoints,
    media_downloads.endpoints,
    media_downloads.old_endpoints,
    media_previews.endpoints,
    media_previews.old_endpoints,
    federation_media.endpoints,
    sync.endpoints,
    device_keys.endpoints,
    cross_signing.endpoints,
    dehydrated_devices.endpoints,
    key_backup.endpoints,
    to_device.endpoints,
    sliding_sync.endpoints,
    thread_subscriptions.endpoints,
    admin_registration.endpoints,
    server_notices.endpoints,
    keys.endpoints,
    queries.endpoints,
    transactions.endpoints,
    federation_events.endpoints,
    federation_membership.endpoints,
    federation_third_party_invites.endpoints,
    version.endpoints,
    monitoring.health,
    monitoring.metrics,
)
