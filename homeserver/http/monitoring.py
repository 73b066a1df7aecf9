"""For those who run the server: is it alive, and how is it?"""

from __future__ import annotations

from aiohttp.web import Response

from homeserver.http.call import Call
from homeserver.http.endpoint import Auth, Endpoints, Resource
from homeserver.http.rate_limits import Limit

health = Endpoints(prefix="", versions=(), resource=Resource.COMMON)
metrics = Endpoints(prefix="", versions=(), resource=Resource.METRICS)


@health.get("/health", auth=Auth.NONE, limit=Limit.NONE)
async def get_health(call: Call) -> Response:
    """Alive: for load balancers and container health checks (not in the specification)."""
    return Response(text="OK")


@metrics.get("/metrics", auth=Auth.NONE, limit=Limit.NONE)
async def get_metrics(call: Call) -> Response:
    """Prometheus metrics, on listeners with the resource `metrics` (not in the specification)."""
    # Two megabytes of library, for those servers only that somebody watches.
    from homeserver.http.exposition import CONTENT_TYPE, exposition

    text = exposition(call.parts.metrics)
    return Response(body=text, headers={"Content-Type": CONTENT_TYPE})
