"""What can go wrong with another server, as errors that a client can be told as they are."""

from __future__ import annotations

import re
from typing import Any, TypeGuard

from homeserver.errors import MatrixError
from homeserver.json_types import JsonObject

# Said to a client of ours, these would log it out.
_ABOUT_US = {"M_UNKNOWN_TOKEN", "M_MISSING_TOKEN", "M_UNAUTHORIZED", "M_USER_LOCKED"}
_ABOUT_ONE_FILE = ("M_NOT_YET_UPLOADED", "M_TOO_LARGE")
_ERRCODE = re.compile(r"[A-Za-z0-9_.]{1,100}")


class Unreachable(MatrixError):
    """The server can't be found or connected to, doesn't answer in time, or answers nonsense."""

    status = 502

    def __init__(self, destination: str, reason: str) -> None:
        super().__init__(f"Can't reach {destination}: {reason}")
        self.destination = destination


class RemoteRefusal(MatrixError):
    """The server answered with an error: `remote_status` and `remote_body` are what it said.

    `is_trouble`: 429 and 5xx come from a server in trouble, but for those about one file;
    everything else is an answer.
    """

    def __init__(self, destination: str, status: int, body: JsonObject) -> None:
        errcode = body.get("errcode")
        sentence = body.get("error")
        text = sentence if isinstance(sentence, str) else f"HTTP {status}"
        super().__init__(
            f"{destination}: {text[:500]}",
            errcode=errcode if _may_be_told(errcode) else None,
            # Its own trouble (and its 401 about our signature) isn't our client's.
            status=status if 400 <= status < 500 and status != 401 else 502,
        )
        if isinstance(version := body.get("room_version"), str):
            self.fields["room_version"] = version  # of a room that we can't join
        self.remote_status = status
        self.is_trouble = (status >= 500 or status == 429) and errcode not in _ABOUT_ONE_FILE
        self.remote_body = body


def _may_be_told(errcode: Any) -> TypeGuard[str]:
    """Is it an errcode, and about what was asked for, not about us?"""
    if not isinstance(errcode, str) or errcode in _ABOUT_US:
        return False
    return _ERRCODE.fullmatch(errcode) is not None
