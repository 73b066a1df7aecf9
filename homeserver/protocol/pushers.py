"""Pushers as clients set and see them, and what a push gateway is told. push-gateway-api"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

from msgspec import Struct, field

from homeserver.errors import InvalidParam, MissingParam
from homeserver.json_types import JsonObject

GATEWAY_PATH: Final = "/_matrix/push/v1/notify"
ENABLED: Final = "org.matrix.msc3881.enabled"
DEVICE_ID: Final = "org.matrix.msc3881.device_id"
NO_BADGE: Final = "org.matrix.msc4076.disable_badge_count"

_TEXTS = ("app_display_name", "device_display_name", "lang")
_LIMITS = {"app_id": 64, "pushkey": 512}


class WantedPusher(Struct, frozen=True):
    """What `POST /pushers/set` asks for. `kind` None: the pusher goes.

    client-server-api#post_matrixclientv3pushersset
    """

    app_id: str
    pushkey: str
    kind: str | None
    app_display_name: str = ""
    device_display_name: str = ""
    profile_tag: str = ""
    lang: str = ""
    data: JsonObject = field(default_factory=dict)
    enabled: bool = True
    append: bool = False


def parse_pusher(body: JsonObject, *, require_https: bool) -> WantedPusher:
    """Raises MissingParam or InvalidParam."""
    if "kind" not in body:
        raise MissingParam("`kind` is missing")
    app_id, pushkey = _text(body, "app_id"), _text(body, "pushkey")
    if body["kind"] is None:
        return WantedPusher(app_id, pushkey, None)
    if body["kind"] != "http":
        raise InvalidParam("This server has pushers of the kind `http` only")
    data = body.get("data")
    if not isinstance(data, dict):
        raise MissingParam("`data` is missing, or is no object")
    _check_url(data.get("url"), require_https)
    texts = {name: _text(body, name) for name in _TEXTS}
    return WantedPusher(
        app_id=app_id,
        pushkey=pushkey,
        kind="http",
        profile_tag=_text(body, "profile_tag") if "profile_tag" in body else "",
        data=data,
        enabled=_flag(body, ENABLED, True),
        append=_flag(body, "append", False),
        **texts,
    )


def _text(body: JsonObject, name: str) -> str:
    value = body.get(name)
    if value is None:
        raise MissingParam(f"`{name}` is missing")
    if not isinstance(value, str) or "\0" in value:
        raise InvalidParam(f"`{name}` must be a string without NUL")
    limit = _LIMITS.get(name, 1024)
    if len(value.encode("utf-8", "surrogatepass")) > limit:
        raise InvalidParam(f"`{name}` may have at most {limit} bytes")
    return value


def _flag(body: JsonObject, name: str, default: bool) -> bool:
    value = body.get(name, default)
    if not isinstance(value, bool):
        raise InvalidParam(f"`{name}` must be true or false")
    return value


def _check_url(url: Any, require_https: bool) -> None:
    """ "MUST be an HTTPS URL with a path of `/_matrix/push/v1/notify`." """
    if not isinstance(url, str):
        raise MissingParam("`data` of an http pusher needs a `url`")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise InvalidParam("`url` is no URL") from None
    schemes = ("https",) if require_https else ("https", "http")
    if parts.scheme not in schemes or not parts.hostname or parts.path != GATEWAY_PATH:
        raise InvalidParam(f"`url` must be an https URL with the path {GATEWAY_PATH}")


class PushedEvent(Struct, frozen=True):
    """What a gateway may learn of an event; None of the room is left out."""

    event_id: str
    room_id: str
    type: str
    sender: str
    content: JsonObject
    tweaks: JsonObject
    sender_display_name: str | None = None
    room_name: str | None = None
    room_alias: str | None = None
    user_is_target: bool = False

    @property
    def prio(self) -> str:
        """`low` for what makes no sound and is for nobody in particular."""
        loud = self.type == "m.room.encrypted" or self.user_is_target
        return "high" if loud or self.tweaks.get("sound") or self.tweaks.get("highlight") else "low"


class PushTarget(Struct, frozen=True):
    """The pusher that a notification is for; `data` is what the client gave."""

    app_id: str
    pushkey: str
    pushkey_ts: int
    data: JsonObject


def notification(target: PushTarget, event: PushedEvent | None, unread: int | None) -> JsonObject:
    """The body of `POST /_matrix/push/v1/notify`; without an event, it only tells the count.

    `unread` None: the pusher wants no counts (MSC4076).
    """
    device: JsonObject = {
        "app_id": target.app_id,
        "pushkey": target.pushkey,
        "pushkey_ts": target.pushkey_ts // 1000,
        "data": {key: value for key, value in target.data.items() if key != "url"},
    }
    told: JsonObject = {"devices": [device]}
    if unread is not None:
        # "Counts whose value is zero should be omitted", but a badge has to be cleared by somebody.
        told["counts"] = {"unread": unread} if unread or event is None else {}
    if event is None:
        return {"notification": told}
    told |= {"event_id": event.event_id, "room_id": event.room_id, "prio": event.prio}
    if target.data.get("format") != "event_id_only":
        device["tweaks"] = event.tweaks
        told |= _details(event)
    return {"notification": told}


def _details(event: PushedEvent) -> JsonObject:
    details: JsonObject = {"type": event.type, "sender": event.sender, "content": event.content}
    for name in ("sender_display_name", "room_name", "room_alias"):
        value = getattr(event, name)
        if value:
            details[name] = value
    if event.user_is_target:
        details["user_is_target"] = True
    return details
