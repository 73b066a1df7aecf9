"""The long-lived parts that handlers use. They are built in `app.py` and stop at this door."""

from __future__ import annotations

from dataclasses import dataclass

from homeserver.config import Config
from homeserver.http.metrics import Metrics
from homeserver.http.rate_limits import RateLimits
from homeserver.services.sessions import Sessions


@dataclass(frozen=True, slots=True)
class Parts:
    """What `call.parts` offers. A new part is one more field here and one more line in `app.py`."""

    config: Config
    metrics: Metrics
    rate_limits: RateLimits
    sessions: Sessions
