"""Notifications of apps, and calls."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from homeserver.config.section import Section, about


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
