"""Every route that the server has: the endpoints of each file, one line each, by chapter."""

from __future__ import annotations

from homeserver.http import monitoring, well_known
from homeserver.http.admin import registration as admin_registration
from homeserver.http.client import (
    account,
    account_data,
    admin,
    auth_fallback,
    capabilities,
    cross_signing,
    dehydrated_devices,
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
    registration,
    relations,
    room_state,
    rooms,
    sending,
    sliding_sync,
    sync,
    to_device,
    voip,
)
from homeserver.http.endpoint import Endpoints
from homeserver.http.federation import keys, queries, transactions, version
from homeserver.http.federation import media as federation_media
from homeserver.http.federation import membership as federation_membership
from homeserver.http.federation import openid as federation_openid
from homeserver.http.media import downloads as media_downloads
from homeserver.http.media import previews as media_previews
from homeserver.http.media import uploads as media_uploads

ROUTES: tuple[Endpoints, ...] = (
    discovery.pages,
    discovery.endpoints,
    well_known.endpoints,
    registration.endpoints,
    login.endpoints,
    login_fallback.endpoints,
    auth_fallback.endpoints,
    account.endpoints,
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
    room_state.endpoints,
    history.endpoints,
    relations.endpoints,
    old_sync.endpoints,
    sending.endpoints,
    membership.endpoints,
    participation.endpoints,
    presence.endpoints,
    push_rules.endpoints,
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
    admin_registration.endpoints,
    keys.endpoints,
    queries.endpoints,
    transactions.endpoints,
    federation_membership.endpoints,
    version.endpoints,
    monitoring.health,
    monitoring.metrics,
)
