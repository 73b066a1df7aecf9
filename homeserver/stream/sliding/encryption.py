"""The extensions for end-to-end encryption: to-device messages and keys (MSC3884, MSC3885)."""

from __future__ import annotations

from collections.abc import Sequence

from homeserver.errors import InvalidParam
from homeserver.stream.inboxes import Inboxes
from homeserver.stream.sliding.extensions import Scope
from homeserver.stream.sliding.request import Extensions
from homeserver.stream.sliding.sync import ExtensionPart, FurtherExtension
from homeserver.stream.sync import Section
from homeserver.stream.sync_request import encode, json_object, parse_token


def to_device_extension(inboxes: Inboxes) -> FurtherExtension:
    """The device's messages. Their token is their own: a client may poll for them elsewhere."""

    async def extension(scope: Scope, asked: Extensions, upto: int) -> Sequence[ExtensionPart]:
        device_id = scope.request.device_id
        if not asked.to_device.enabled or device_id is None:
            return ()
        after = _position(asked.to_device.since)
        if after > upto:
            raise InvalidParam("`since` of the to-device extension is not one of this server's")
        waiting = await inboxes.read((scope.user.user_id, device_id), after, upto)
        told = upto if waiting.upto is None else waiting.upto
        answer = json_object(
            (
                (b'"next_batch"', encode(f"s{told}")),
                (b'"events"', b"[" + b",".join(waiting.messages) + b"]"),
            )
        )
        return (ExtensionPart("to_device", answer, news=bool(waiting.messages)),)

    return extension


def e2ee_extension(sections: Sequence[Section]) -> FurtherExtension:
    """Whose devices changed and which keys the device has left, as the sections of /sync say it."""

    async def extension(scope: Scope, asked: Extensions, upto: int) -> Sequence[ExtensionPart]:
        if not asked.e2ee.enabled:
            return ()
        parts = [
            part for section in sections for part in await section(scope.request, scope.user, upto)
        ]
        answer = json_object([(encode(part.name), part.json) for part in parts])
        return (ExtensionPart("e2ee", answer, news=any(part.news for part in parts)),)

    return extension


def _position(since: str | None) -> int:
    token = None if not since else parse_token(since)
    if since and token is None:
        raise InvalidParam("`since` of the to-device extension is no token")
    return 0 if token is None else token.to_device
