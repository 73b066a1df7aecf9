"""Registrations of application services, as their files say it, and what they claim for themselves.

Files are as Synapse's, so that those which bridges write work as they are.
application-service-api#registration
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from homeserver.json_types import JsonObject
from homeserver.protocol.identifiers import server_name_of


class BadRegistration(ValueError):
    """The file can't be used; the text says why."""


@dataclass(frozen=True, slots=True)
class Namespace:
    """`exclusive`: nobody else may have such ids."""

    regex: re.Pattern[str]
    exclusive: bool


@dataclass(frozen=True, slots=True)
class AppService:
    """`url` None: it wants nothing sent to it. `user_id` is its own user.

    `manages_devices`: it makes devices by itself and logs nobody in (MSC4190).
    """

    id: str
    url: str | None
    as_token: str
    hs_token: str
    user_id: str
    users: tuple[Namespace, ...] = ()
    aliases: tuple[Namespace, ...] = ()
    rooms: tuple[Namespace, ...] = ()
    protocols: tuple[str, ...] = ()
    rate_limited: bool = True
    wants_ephemeral: bool = False
    wants_encryption: bool = False
    manages_devices: bool = False
    _users_known: dict[str, bool] = field(default_factory=dict, compare=False, repr=False)

    def has_user(self, user_id: str) -> bool:
        """Whether a user is its own one or in its namespace; remembered for the next time.

        "Events affecting users on other homeservers are not sent to an application service, even
        if the user happens to match the one of the `users` namespaces"
        """
        known = self._users_known.get(user_id)
        if known is None:
            if len(self._users_known) > 100_000:
                self._users_known.clear()
            is_local = server_name_of(user_id) == server_name_of(self.user_id)
            known = user_id == self.user_id or (is_local and _matches(self.users, user_id))
            self._users_known[user_id] = known
        return known

    def has_alias(self, alias: str) -> bool:
        return _matches(self.aliases, alias)

    def has_room(self, room_id: str) -> bool:
        return bool(self.rooms) and _matches(self.rooms, room_id)

    def owns_user(self, user_id: str) -> bool:
        """Whether nobody else may be this user."""
        return user_id == self.user_id or _matches(_exclusive(self.users), user_id)

    def owns_alias(self, alias: str) -> bool:
        """Whether nobody else may make this alias."""
        return _matches(_exclusive(self.aliases), alias)


def _exclusive(namespaces: Iterable[Namespace]) -> Iterable[Namespace]:
    return (namespace for namespace in namespaces if namespace.exclusive)


def _matches(namespaces: Iterable[Namespace], text: str) -> bool:
    return any(namespace.regex.match(text) for namespace in namespaces)


def parse_registration(values: Any, server_name: str) -> AppService:
    """Raises BadRegistration."""
    if not isinstance(values, dict):
        raise BadRegistration("it must be a mapping")
    namespaces = values.get("namespaces")
    if not isinstance(namespaces, dict):
        raise BadRegistration("`namespaces` must be a mapping")
    if "url" not in values:
        raise BadRegistration("`url` is missing; null stands for none")
    url = values["url"]
    if url is not None and not (isinstance(url, str) and url.startswith(("http://", "https://"))):
        raise BadRegistration("`url` must be an http or https URL, or null")
    localpart = _text(values, "sender_localpart")
    return AppService(
        id=_text(values, "id"),
        url=url.rstrip("/") if url else None,
        as_token=_text(values, "as_token"),
        hs_token=_text(values, "hs_token"),
        user_id=f"@{localpart}:{server_name}",
        users=_namespaces(namespaces, "users"),
        aliases=_namespaces(namespaces, "aliases"),
        rooms=_namespaces(namespaces, "rooms"),
        protocols=_protocols(values),
        rate_limited=_flag(values, "rate_limited", default=True),
        wants_ephemeral=_flag(
            values, "receive_ephemeral", "de.sorunome.msc2409.push_ephemeral", "push_ephemeral"
        ),
        wants_encryption=_flag(values, "org.matrix.msc3202"),
        manages_devices=_flag(values, "io.element.msc4190"),
    )


def _text(values: JsonObject, name: str) -> str:
    value = values.get(name)
    if not isinstance(value, str) or not value:
        raise BadRegistration(f"`{name}` must be a string")
    return value


def _flag(values: JsonObject, *names: str, default: bool = False) -> bool:
    """The first of the names that is there: older files have names of drafts."""
    for name in names:
        if name in values:
            if not isinstance(values[name], bool):
                raise BadRegistration(f"`{name}` must be true or false")
            return bool(values[name])
    return default


def _protocols(values: JsonObject) -> tuple[str, ...]:
    protocols = values.get("protocols") or []
    if not isinstance(protocols, list) or not all(isinstance(p, str) for p in protocols):
        raise BadRegistration("`protocols` must be a list of strings")
    return tuple(protocols)


def _namespaces(namespaces: JsonObject, kind: str) -> tuple[Namespace, ...]:
    listed = namespaces.get(kind) or []
    if not isinstance(listed, list):
        raise BadRegistration(f"`namespaces.{kind}` must be a list")
    return tuple(_namespace(kind, entry) for entry in listed)


def _namespace(kind: str, entry: Any) -> Namespace:
    if not isinstance(entry, dict) or not isinstance(entry.get("regex"), str):
        raise BadRegistration(f"each of `namespaces.{kind}` needs a `regex`")
    if not isinstance(entry.get("exclusive"), bool):
        raise BadRegistration(f"each of `namespaces.{kind}` needs `exclusive`, true or false")
    try:
        return Namespace(re.compile(entry["regex"]), entry["exclusive"])
    except re.error as error:
        raise BadRegistration(f"{entry['regex']!r} in `namespaces.{kind}`: {error}") from None
