"""Which URLs may be fetched for a preview, before any name is looked up."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from yarl import URL

MAX_URL = 2048


class Hosts:
    """The config's lists. `*.example.org` is every host below example.org, not itself."""

    def __init__(self, allowed: Iterable[str], denied: Iterable[str]) -> None:
        self._allowed = [pattern.lower() for pattern in allowed]
        self._denied = [pattern.lower() for pattern in denied]

    def allows(self, url: URL) -> bool:
        """Is it a web address of a host that may be asked?"""
        if url.scheme not in {"http", "https"} or url.user is not None or url.password is not None:
            return False
        host = (url.host or "").lower().rstrip(".")
        if not host or len(str(url)) > MAX_URL:
            return False
        if any(fnmatchcase(host, pattern) for pattern in self._denied):
            return False
        return not self._allowed or any(fnmatchcase(host, pattern) for pattern in self._allowed)


def parse_url(text: str) -> URL | None:
    """`text` as a URL without its fragment, or None."""
    try:
        url = URL(text.strip())
        return url.with_fragment(None) if url.absolute else None
    except ValueError:
        return None
