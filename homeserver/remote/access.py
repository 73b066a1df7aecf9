"""With which servers this one talks at all: the config's off switch and lists.

Names in the lists may hold `*` and `?`. The deny list wins.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from homeserver.errors import Forbidden


class FederationAccess:
    """`allowed` None: every server that isn't denied."""

    def __init__(
        self, server_name: str, enabled: bool, allowed: Iterable[str] | None, denied: Iterable[str]
    ) -> None:
        self._server_name = server_name
        self._enabled = enabled
        self._allowed = None if allowed is None else _pattern(allowed)
        self._denied = _pattern(denied)

    def allows(self, server_name: str) -> bool:
        """May requests go to, and come from, that server? Never from ourselves."""
        name = server_name.lower()
        if not self._enabled or name == self._server_name or self._denied.fullmatch(name):
            return False
        return self._allowed is None or self._allowed.fullmatch(name) is not None

    def check(self, server_name: str) -> None:
        """Raises Forbidden."""
        if not self.allows(server_name):
            raise Forbidden(f"This server does not federate with {server_name}")


def _pattern(globs: Iterable[str]) -> re.Pattern[str]:
    parts = [re.escape(g.lower()).replace(r"\*", ".*").replace(r"\?", ".") for g in globs]
    return re.compile("|".join(parts) or r"(?!)")
