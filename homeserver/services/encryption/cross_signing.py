"""Cross-signing keys are published, and signatures of keys.

client-server-api#cross-signing
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Struct

from homeserver.errors import (
    BadJson,
    Forbidden,
    InvalidParam,
    InvalidSignature,
    MatrixError,
    MissingParam,
    NotFound,
)
from homeserver.json_types import JsonObject
from homeserver.protocol.canonical_json import CanonicalJsonError
from homeserver.protocol.canonical_json import encode as encode_canonical
from homeserver.protocol.cross_signing import (
    MASTER,
    SELF_SIGNING,
    USAGES,
    USER_SIGNING,
    KeyFormatError,
    PublicKey,
    cross_signing_key,
    device_signing_key,
    merged,
    signatures_of,
    signed_part,
)
from homeserver.protocol.identifiers import is_user_id
from homeserver.protocol.signatures import SignatureError, verify_signature
from homeserver.store import cross_signing as cross_signing_store
from homeserver.store import device_keys as device_key_store
from homeserver.store import devices as device_store
from homeserver.store.cross_signing import CrossSigningRow, UserSignatureRow
from homeserver.store.database import Database
from homeserver.store.device_keys import DeviceKeysRow
from homeserver.stream.device_lists import DeviceLists, DeviceListUpdate

Keys = dict[str, JsonObject]
"""Cross-signing keys by usage."""


class KeysUpload(msgspec.Struct):
    """The body of /keys/device_signing/upload."""

    master_key: dict[str, Any] | None = None
    self_signing_key: dict[str, Any] | None = None
    user_signing_key: dict[str, Any] | None = None
    auth: dict[str, Any] | None = None

    def by_usage(self) -> Keys:
        given = (self.master_key, self.self_signing_key, self.user_signing_key)
        return {u: key for u, key in zip(USAGES, given, strict=True) if key is not None}


class _Known(Struct, frozen=True):
    """What stands of a user: cross-signing keys by usage, and device keys by device id."""

    keys: Keys
    devices: dict[str, JsonObject]


class CrossSigning:
    """The cross-signing keys of local users, and what they sign."""

    def __init__(self, database: Database, device_lists: DeviceLists) -> None:
        self._database = database
        self._device_lists = device_lists

    async def needs_authentication(self, user_id: str, upload: KeysUpload) -> bool:
        """Whether an upload replaces something, so that the user has to prove who they are.

        It need not if "there is no existing master signing key", or "the request contains no new
        keys". Raises the errors of `upload` where it couldn't succeed.
        """
        standing = await self._standing(user_id)
        keys = upload.by_usage()
        _check_keys(user_id, keys, standing)
        return MASTER in standing and not _is_known(keys, standing)

    async def upload(self, user_id: str, upload: KeysUpload) -> None:
        """Publish cross-signing keys.

        Raises InvalidParam (not such a key), MissingParam (no master key), InvalidSignature,
        Forbidden (a key is named like a device).
        """
        async with self._device_lists.turn_of(user_id):
            standing = await self._standing(user_id)
            keys = upload.by_usage()
            public_keys = _check_keys(user_id, keys, standing)
            await self._check_no_device_is_named(user_id, public_keys)
            if _is_known(keys, standing):
                return
            rows = [CrossSigningRow(user_id, u, _canonical(key)) for u, key in keys.items()]
            if MASTER in keys and not _is_same(keys[MASTER], standing.get(MASTER)):
                # What the former master key has signed is worth nothing any more.
                rows += [CrossSigningRow(user_id, u, None) for u in standing if u not in keys]
            await self._device_lists.publish(DeviceListUpdate(user_id, cross_signing=tuple(rows)))

    async def delete_all(self, user_id: str) -> None:
        """Take a user's cross-signing keys away."""
        async with self._device_lists.turn_of(user_id):
            standing = await self._standing(user_id)
            rows = tuple(CrossSigningRow(user_id, usage, None) for usage in standing)
            if rows:
                await self._device_lists.publish(DeviceListUpdate(user_id, cross_signing=rows))

    async def sign(self, user_id: str, body: JsonObject) -> JsonObject:
        """Add a user's signatures to keys, by user id and key id; the failures likewise."""
        failures: dict[str, JsonObject] = {}
        async with self._device_lists.turn_of(user_id):
            known = await self._known([user_id, *filter(is_user_id, body)])
            updates: list[DeviceListUpdate] = []
            for target, objects in body.items():
                if not isinstance(objects, dict):
                    raise BadJson("Signed objects must be given by user id and key id")
                for key_id, signed in objects.items():
                    try:
                        updates += self._signed(user_id, target, key_id, signed, known)
                    except MatrixError as error:
                        failures.setdefault(target, {})[key_id] = error.body()
            await self._device_lists.publish(*updates)
        return failures

    def _signed(
        self, user_id: str, target: str, key_id: str, signed: Any, known: dict[str, _Known]
    ) -> list[DeviceListUpdate]:
        """What follows from one signed object. Raises what its failure says."""
        if not isinstance(signed, dict):
            raise BadJson("A signed object must be an object")
        own = known[user_id]
        if target != user_id:
            return _signed_other(user_id, target, key_id, signed, known)
        if key_id in own.devices:
            return _signed_device(user_id, key_id, signed, own)
        return _signed_master(user_id, key_id, signed, own)

    async def _standing(self, user_id: str) -> Keys:
        return (await self._known([user_id]))[user_id].keys

    async def _known(self, user_ids: Iterable[str]) -> dict[str, _Known]:
        users = list(set(user_ids))
        known = {user_id: _Known({}, {}) for user_id in users}
        async with self._database.connection() as connection:
            keys = await cross_signing_store.of_users(connection, users)
            devices = await device_key_store.of_users(connection, users)
        for key in keys:
            if key.json is not None:
                known[key.user_id].keys[key.usage] = msgspec.json.decode(key.json)
        for device in devices:
            known[device.user_id].devices[device.device_id] = msgspec.json.decode(device.json)
        return known

    async def _check_no_device_is_named(self, user_id: str, keys: Iterable[PublicKey]) -> None:
        """ "Servers therefore must ensure that device IDs will not collide with" keys."""
        async with self._database.connection() as connection:
            devices = await device_store.ids_of_users(connection, [user_id])
        if {device_id for _, device_id in devices} & {key.name for key in keys}:
            raise Forbidden("One of your devices is named like this key")


def _check_keys(user_id: str, keys: Keys, standing: Keys) -> list[PublicKey]:
    """The given keys, if they are well-formed and signed by the master key."""
    try:
        public = {usage: cross_signing_key(key, user_id, usage) for usage, key in keys.items()}
        master = public.get(MASTER)
        if master is None and MASTER in standing:
            master = cross_signing_key(standing[MASTER], user_id, MASTER)
    except KeyFormatError as error:
        raise InvalidParam(str(error)) from None
    if master is None:
        raise MissingParam("There is no master_key, in your request or from before")
    for usage in (SELF_SIGNING, USER_SIGNING):
        if usage in keys:
            _verify(keys[usage], user_id, master)
    return list(public.values())


def _is_known(keys: Keys, standing: Keys) -> bool:
    return all(_is_same(key, standing.get(usage)) for usage, key in keys.items())


def _is_same(key: JsonObject, standing: JsonObject | None) -> bool:
    return standing is not None and signed_part(key) == signed_part(standing)


def _verify(obj: JsonObject, user_id: str, key: PublicKey) -> None:
    try:
        verify_signature(obj, user_id, key.key_id, key.verify_key)
    except SignatureError as error:
        raise InvalidSignature(f"Invalid signature: {error}") from None


def _signed_device(
    user_id: str, device_id: str, signed: JsonObject, own: _Known
) -> list[DeviceListUpdate]:
    """A user's device, signed with their self-signing key."""
    key = _own_key(own, user_id, SELF_SIGNING)
    device = own.devices[device_id]
    new = _with_signature(device, signed, user_id, key)
    if new == device:
        return []
    own.devices[device_id] = new
    row = DeviceKeysRow(user_id, device_id, _canonical(new))
    return [DeviceListUpdate(user_id, device_id, device_keys=row)]


def _signed_master(
    user_id: str, key_id: str, signed: JsonObject, own: _Known
) -> list[DeviceListUpdate]:
    """A user's master key, signed by their devices."""
    master = own.keys.get(MASTER)
    if master is None or key_id != _own_key(own, user_id, MASTER).name:
        raise NotFound("You have no such device or master key")
    new = master
    for name in signatures_of(signed).get(user_id, {}):
        device_id = name.removeprefix("ed25519:")
        if device_id not in own.devices:
            raise InvalidSignature(f"You have no device {device_id} with keys")
        try:
            key = device_signing_key(own.devices[device_id], device_id)
        except KeyFormatError as error:
            raise InvalidSignature(str(error)) from None
        new = _with_signature(new, signed, user_id, key)
    if new == master:
        return []
    own.keys[MASTER] = new
    row = CrossSigningRow(user_id, MASTER, _canonical(new))
    return [DeviceListUpdate(user_id, cross_signing=(row,))]


def _signed_other(
    user_id: str, target: str, key_id: str, signed: JsonObject, known: dict[str, _Known]
) -> list[DeviceListUpdate]:
    """Another user's master key, signed with the user's user-signing key."""
    master = known[target].keys.get(MASTER) if target in known else None
    if master is None or f"ed25519:{key_id}" not in master["keys"]:
        raise NotFound("The user has no such master key")
    key = _own_key(known[user_id], user_id, USER_SIGNING)
    signature = signatures_of(_with_signature(master, signed, user_id, key))[user_id][key.key_id]
    row = UserSignatureRow(user_id, target, key_id, key.key_id, signature)
    return [DeviceListUpdate(target, only_for=user_id, user_signatures=(row,))]


def _own_key(own: _Known, user_id: str, usage: str) -> PublicKey:
    if usage not in own.keys:
        raise NotFound(f"You have no {usage} key")
    return cross_signing_key(own.keys[usage], user_id, usage)


def _with_signature(
    standing: JsonObject, signed: JsonObject, user_id: str, key: PublicKey
) -> JsonObject:
    """The standing object with the signature that `signed` has by this key.

    "The signed JSON object must match the key previously uploaded or retrieved for the given key
    ID, with the exception of the `signatures` property". Raises InvalidParam, InvalidSignature.
    """
    if signed_part(signed) != signed_part(standing):
        raise InvalidParam("The signed object is not the key that was uploaded")
    _verify(signed, user_id, key)
    signature = signatures_of(signed)[user_id][key.key_id]
    return merged(standing, {user_id: {key.key_id: signature}})


def _canonical(key: JsonObject) -> bytes:
    try:
        return encode_canonical({k: v for k, v in key.items() if k != "unsigned"})
    except CanonicalJsonError as error:
        raise BadJson(f"A key has no canonical form: {error}") from None
