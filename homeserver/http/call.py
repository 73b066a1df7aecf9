"""One request as its handler sees it: who calls, from where, with which query parameters."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp.web import BaseRequest

from homeserver.errors import InvalidParam, MissingParam, MissingToken
from homeserver.http.parts import Parts
from homeserver.requester import Requester


class Call:
    """The request, the parts, and who makes it. `address` is the caller's IP address."""

    __slots__ = ("_origin", "_requester", "address", "parts", "request")

    def __init__(self, request: BaseRequest, parts: Parts, address: str) -> None:
        self.request = request
        self.parts = parts
        self.address = address
        self._requester: Requester | None = None
        self._origin: str | None = None

    def authenticated(self, requester: Requester | None) -> None:
        """Remember whose access token the request carried."""
        self._requester = requester

    def signed_by(self, origin: str) -> None:
        """Remember which server signed the request."""
        self._origin = origin

    @property
    def requester(self) -> Requester:
        """The local user who calls: always there unless the route is NONE, OPTIONAL, FEDERATION."""
        if self._requester is None:
            raise MissingToken("This needs an access token")
        return self._requester

    @property
    def maybe_requester(self) -> Requester | None:
        """The local user who calls, if anyone: for routes with `Auth.OPTIONAL`."""
        return self._requester

    @property
    def origin(self) -> str:
        """The server that signed the request: for routes with `Auth.FEDERATION`."""
        assert self._origin is not None, "only a federation route has an origin"
        return self._origin

    def query(self, name: str) -> str | None:
        """The (first) value of a query parameter."""
        return self.request.query.get(name)

    def required_query(self, name: str) -> str:
        """The value of a query parameter. Raises `MissingParam`."""
        value = self.request.query.get(name)
        if value is None:
            raise MissingParam(f"The query parameter '{name}' is missing")
        return value

    def query_int(self, name: str, default: int, minimum: int = 0, maximum: int = 2**53) -> int:
        """An integer; more than `maximum` is `maximum`. Raises `InvalidParam` below `minimum`."""
        text = self.request.query.get(name)
        if text is None:
            return default
        digits = text.removeprefix("-")
        if not (digits.isascii() and digits.isdigit() and len(digits) < 20):
            raise InvalidParam(f"The query parameter '{name}' must be an integer")
        value = int(text)
        if value < minimum:
            raise InvalidParam(f"The query parameter '{name}' must be at least {minimum}")
        return min(value, maximum)

    def query_bool(self, name: str, default: bool = False) -> bool:
        """`true` or `false`. Raises `InvalidParam` for anything else."""
        text = self.request.query.get(name)
        if text is None:
            return default
        if text not in {"true", "false"}:
            raise InvalidParam(f"The query parameter '{name}' must be 'true' or 'false'")
        return text == "true"

    def query_list(self, name: str) -> list[str]:
        """All values of a parameter that may be given several times."""
        return self.request.query.getall(name, [])

    def query_choice(self, name: str, choices: Sequence[str], default: str) -> str:
        """One of `choices`. Raises `InvalidParam` for anything else."""
        text = self.request.query.get(name, default)
        if text not in choices:
            raise InvalidParam(f"The query parameter '{name}' must be one of {', '.join(choices)}")
        return text
