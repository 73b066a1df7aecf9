"""Every route that the server has: the endpoints of each file, one line each, by chapter."""

from __future__ import annotations

from homeserver.http import monitoring
from homeserver.http.endpoint import Endpoints

ROUTES: tuple[Endpoints, ...] = (
    monitoring.health,
    monitoring.metrics,
)
