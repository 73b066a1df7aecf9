"""What the server can do, and the page that a browser sees: client-server-api#api-versions."""

from __future__ import annotations

import html

from aiohttp.web import Response

from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints
from homeserver.http.rate_limits import Limit
from homeserver.json_types import JsonObject

endpoints = Endpoints(versions=())
pages = Endpoints(prefix="", versions=())

VERSIONS = (
    *("r0.0.1", "r0.1.0", "r0.2.0", "r0.3.0", "r0.4.0", "r0.5.0", "r0.6.0", "r0.6.1"),
    *(f"v1.{minor}" for minor in range(1, 20)),
)

UNSTABLE_FEATURES = {
    # What is served under its unstable name too; a chapter that does so adds a line. Clients that
    # are older than a part of the specification look for it here, not in `versions`.
    "org.matrix.e2e_cross_signing": True,  # Element Web until 2025 sets it up only if this is said
    "org.matrix.msc3981": True,  # relations of relations
    "uk.tcpip.msc4133": True,  # profiles with fields of any name
    "uk.tcpip.msc4133.stable": True,
    "org.matrix.msc2918": True,  # refresh tokens
    "org.matrix.msc3231": True,  # token-authenticated registration
    "org.matrix.msc3814": True,  # dehydrated devices
    "org.matrix.msc3882": True,  # login tokens for other clients
    "org.matrix.simplified_msc3575": True,  # sliding sync (MSC4186), also known by its old number
    "org.matrix.msc3912": True,  # redaction of related events
    "org.matrix.msc4140": True,  # delayed events
    "uk.half-shot.msc2666.query_mutual_rooms": True,
    "org.matrix.msc3827.stable": True,  # room types in the directory
    "org.matrix.msc4308": True,  # thread subscriptions in sliding sync
    "org.matrix.msc3881": True,  # pushers switched on and off from another device
    "org.matrix.msc4076": True,  # pushers without the count of unread messages
    "org.matrix.msc4143": True,  # transports for calls
    "org.matrix.msc4222": True,  # state_after in /sync
    "org.matrix.msc4155": True,  # invites filtered by lists
    "uk.timedout.msc4323": True,  # admins suspend and lock accounts
    "fi.mau.msc2659.stable": True,  # application services ping themselves
    "org.matrix.msc3440.stable": True,  # threads
    "org.matrix.msc4380.stable": True,  # invites blocked
    "uk.half-shot.msc2666.query_mutual_rooms.stable": True,
}

_PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{server_name}</title>
<style>
body {{ font: 1.1rem/1.5 system-ui, sans-serif; max-width: 40rem; margin: auto; padding: 3rem }}
code {{ background: #8882; padding: 0 .3em }}
</style>
<h1>It works</h1>
<p>This is the Matrix homeserver of <code>{server_name}</code>.</p>
<p>To use it, open a Matrix client, such as
<a href="https://app.element.io">Element</a>, and choose
<code>{address}</code> as the homeserver before you sign in.</p>
"""


@endpoints.get("/versions", auth=Auth.NONE, limit=Limit.NONE)
async def versions(call: Call) -> JsonObject:
    """client-server-api#get_matrixclientversions"""
    features = dict(UNSTABLE_FEATURES)
    if call.parts.config.push.thread_subscriptions:
        # Without their push rules, subscriptions would change nothing.
        features["org.matrix.msc4306"] = True
    return {"versions": VERSIONS, "unstable_features": features}


@pages.get("/", auth=Auth.NONE)
async def landing_page(call: Call) -> Response:
    """A page that says that the server works (not in the specification)."""
    config = call.parts.config
    address = config.public_baseurl or f"http://{call.request.host}"
    page = _PAGE.format(server_name=html.escape(config.server_name), address=html.escape(address))
    policy = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
    return Response(text=page, content_type="text/html", headers=policy)
