"""How a route is declared: method, paths, auth, limit and body type in one place.

Rules of this file: a declaration is checked where it is written, so a mistake (a path parameter
that the function lacks, a forgotten `auth`) fails at import, not at the first request. Nothing
here serves a request; `router.py` finds a declaration, `middleware.py` runs it.
"""

from __future__ import annotations

import enum
import inspect
import typing
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Required, TypedDict, TypeVar, Unpack

import msgspec
from msgspec import Struct

from homeserver.http.rate_limits import Limit
from homeserver.json_types import JsonObject

DEFAULT_VERSIONS = ("r0", "v3")

Handler = Callable[..., Awaitable[Any]]
AnyHandler = TypeVar("AnyHandler", bound=Handler)


class Auth(enum.Enum):
    """Who may call a route."""

    NONE = "none"
    OPTIONAL = "optional"
    """Anyone; a token, if there is one, must be good."""
    USER = "user"
    """Local users and application services, not guests."""
    GUEST = "guest"
    """Local users, application services and guests."""
    ADMIN = "admin"
    APP_SERVICE = "app_service"
    FEDERATION = "federation"
    """Other servers: an `Authorization: X-Matrix` signature over the request."""


class Resource(enum.Enum):
    """What a listener can be told to serve."""

    CLIENT = "client"
    FEDERATION = "federation"
    METRICS = "metrics"
    COMMON = "common"
    """Served on every listener."""


class Body(enum.Enum):
    """What becomes of a request's body before the handler runs."""

    UNREAD = "unread"
    JSON = "json"
    EMPTY_OR_JSON = "empty or json"


class Options(TypedDict, total=False):
    """What a declaration may say beside its path."""

    auth: Required[Auth]
    limit: Limit
    versions: tuple[str, ...]
    """The path versions, `("r0", "v3")` by default; `()` puts the path right below the prefix."""
    also: tuple[str, ...]
    """Further paths under the same versions."""
    unstable: tuple[str, ...]
    """Further paths right below the prefix, such as `/unstable/org.matrix.msc3916/...`."""
    empty_body: bool
    """Whether no body at all means `{}`."""
    max_body: int
    """The largest body, in bytes, where it isn't the config's for the resource."""
    even_if_locked: bool
    """Whether a locked account may call it (logging out)."""
    not_if_suspended: bool
    """Whether a suspended account is refused (joining, sending, changing the profile, ...)."""
    not_by_oauth: bool
    """Whether devices that were logged in by OAuth 2.0 are refused: what needs User-Interactive
    Authentication. client-server-api#oauth-20-api"""


class Declaration(Struct, frozen=True):
    """A route as it was declared, with full paths."""

    method: str
    paths: tuple[str, ...]
    auth: Auth
    limit: Limit
    resource: Resource
    handler: Handler
    body: Body
    body_type: Any
    max_body: int | None
    even_if_locked: bool
    not_if_suspended: bool
    not_by_oauth: bool

    @property
    def section(self) -> str:
        """The link to the route's section of the specification: the handler's docstring."""
        return (self.handler.__doc__ or "").strip().partition("\n")[0]


class Endpoints:
    """The routes of one file, in the order in which they are declared."""

    def __init__(
        self,
        prefix: str = "/_matrix/client",
        versions: tuple[str, ...] = DEFAULT_VERSIONS,
        resource: Resource = Resource.CLIENT,
    ) -> None:
        self.declarations: list[Declaration] = []
        self._prefix = prefix
        self._versions = versions
        self._resource = resource

    def get(self, path: str, **options: Unpack[Options]) -> Callable[[AnyHandler], AnyHandler]:
        return self._declare("GET", path, options)

    def put(self, path: str, **options: Unpack[Options]) -> Callable[[AnyHandler], AnyHandler]:
        return self._declare("PUT", path, options)

    def post(self, path: str, **options: Unpack[Options]) -> Callable[[AnyHandler], AnyHandler]:
        return self._declare("POST", path, options)

    def delete(self, path: str, **options: Unpack[Options]) -> Callable[[AnyHandler], AnyHandler]:
        return self._declare("DELETE", path, options)

    def _declare(
        self, method: str, path: str, options: Options
    ) -> Callable[[AnyHandler], AnyHandler]:
        if unknown := set(options) - set(Options.__annotations__):
            raise TypeError(f"{method} {path}: unknown options {sorted(unknown)}")
        if "auth" not in options:
            raise TypeError(f"{method} {path}: say who may call it (auth=)")
        paths = self._full_paths(path, options)

        def declare(handler: AnyHandler) -> AnyHandler:
            body_type = _checked_signature(handler, paths)
            self.declarations.append(
                Declaration(
                    method=method,
                    paths=paths,
                    auth=options["auth"],
                    limit=options.get("limit", Limit.DEFAULT),
                    resource=self._resource,
                    handler=handler,
                    body=_body(body_type, options),
                    body_type=body_type,
                    max_body=options.get("max_body"),
                    even_if_locked=options.get("even_if_locked", False),
                    not_if_suspended=options.get("not_if_suspended", False),
                    not_by_oauth=options.get("not_by_oauth", False),
                )
            )
            return handler

        return declare

    def _full_paths(self, path: str, options: Options) -> tuple[str, ...]:
        versions = options.get("versions", self._versions)
        starts = [f"{self._prefix}/{version}" for version in versions] or [self._prefix]
        stable = [start + end for end in (path, *options.get("also", ())) for start in starts]
        return (*stable, *(self._prefix + end for end in options.get("unstable", ())))


def path_parameters(path: str) -> list[str]:
    """The names in braces, in order."""
    return [part[1:-1] for part in path.split("/") if is_parameter(part)]


def is_parameter(segment: str) -> bool:
    return segment.startswith("{") and segment.endswith("}")


def _checked_signature(handler: Handler, paths: Iterable[str]) -> Any:
    """The type of the handler's `body`, or None. Raises TypeError if it doesn't fit its paths."""
    where = f"{handler.__module__}.{handler.__qualname__}"
    if not inspect.iscoroutinefunction(handler):
        raise TypeError(f"{where} must be an async function")
    if not handler.__doc__:
        raise TypeError(f"{where} needs a docstring: the link to its section")
    parameters = dict(inspect.signature(handler).parameters)
    if next(iter(parameters), None) != "call":
        raise TypeError(f"{where}: the first parameter is the call")
    del parameters["call"]
    hints = typing.get_type_hints(handler)
    body_type = hints.get("body") if parameters.pop("body", None) is not None else None
    for path in paths:
        _check_path(where, path, parameters)
    for name in parameters:
        if hints.get(name) is not str:
            raise TypeError(f"{where}: the path parameter {name} must be a str")
    if body_type is not None and not _is_body_type(body_type):
        raise TypeError(f"{where}: a body is JsonObject or a msgspec Struct")
    return body_type


def _check_path(where: str, path: str, parameters: dict[str, inspect.Parameter]) -> None:
    names = path_parameters(path)
    if len(set(names)) != len(names):
        raise TypeError(f"{where}: {path} names a parameter twice")
    if missing := set(names) - set(parameters):
        raise TypeError(f"{where} lacks the parameters {sorted(missing)} of {path}")
    for name, parameter in parameters.items():
        if name not in names and parameter.default is inspect.Parameter.empty:
            raise TypeError(f"{where}: {path} has no {{{name}}}, so it needs a default")


def _is_body_type(body_type: Any) -> bool:
    if body_type == JsonObject:
        return True
    return isinstance(body_type, type) and issubclass(body_type, msgspec.Struct)


def _body(body_type: Any, options: Options) -> Body:
    if body_type is None:
        return Body.UNREAD
    return Body.EMPTY_OR_JSON if options.get("empty_body") else Body.JSON


def route_table(
    groups: Iterable[Endpoints],
) -> list[tuple[str, tuple[str, ...], str, str, str]]:
    """Every route as (method, paths, auth, limit, section), for `homeserver routes`."""
    return [
        (d.method, d.paths, d.auth.value, d.limit.value, d.section)
        for group in groups
        for d in group.declarations
    ]
