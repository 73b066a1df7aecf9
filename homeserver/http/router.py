"""Which declaration serves a path: a trie over path segments, static segments before `{name}`.

Each segment is percent-decoded once, after the split, so an encoded slash stays in its segment.
A `{name}` never matches an empty segment.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import unquote

from msgspec import Struct, field

from homeserver.config import Limits
from homeserver.errors import InvalidParam, Unrecognized
from homeserver.histogram import Histogram
from homeserver.http.body import json_body
from homeserver.http.endpoint import Declaration, Resource, is_parameter, path_parameters
from homeserver.json_types import JsonObject
from homeserver.protocol.canonical_json import MAX_NESTING


class Route:
    """A declaration at run time: with the decoder of its body and its latency."""

    __slots__ = ("any_body", "body", "declaration", "max_body", "seconds")

    def __init__(self, declaration: Declaration, limits: Limits) -> None:
        federation = declaration.resource is Resource.FEDERATION
        default = limits.federation_body if federation else limits.request_body
        # What one of a server's users has sent must not keep out all that it tells us with it.
        depth = MAX_NESTING if federation else limits.json_depth
        self.declaration = declaration
        self.max_body = declaration.max_body or default
        self.body = json_body(declaration.body_type, depth)
        self.any_body = json_body(JsonObject, depth)
        self.seconds = Histogram()


class _End(Struct, frozen=True):
    """Where a path ends: the route and the names of the path's parameters, in order."""

    route: Route
    names: tuple[str, ...]


class _Node(Struct):
    static: dict[str, _Node] = field(default_factory=dict)
    parameter: _Node | None = None
    ends: dict[str, _End] = field(default_factory=dict)


class Router:
    """The routes of one listener."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._root = _Node()
        self._exact: dict[str, dict[str, _End]] = {}  # the paths without parameters
        for route in routes:
            for path in route.declaration.paths:
                self._add(path, route)

    def _add(self, path: str, route: Route) -> None:
        node = self._root
        for segment in path.split("/")[1:]:
            if is_parameter(segment):
                node.parameter = node.parameter or _Node()
                node = node.parameter
            else:
                node = node.static.setdefault(segment, _Node())
        method = route.declaration.method
        if method in node.ends:
            raise ValueError(f"{method} {path} is declared twice")
        node.ends[method] = _End(route, tuple(path_parameters(path)))
        if not node.ends[method].names:
            self._exact[path] = node.ends

    def find(self, method: str, raw_path: str) -> tuple[Route, dict[str, str]]:
        """The route and its path parameters; `raw_path` is still percent-encoded.

        Raises `Unrecognized` with 404 for an unknown path, 405 for a wrong method.
        """
        wanted = "GET" if method == "HEAD" else method
        exact = self._exact.get(raw_path)
        if exact is not None and wanted in exact:
            return exact[wanted].route, {}
        segments = raw_path.split("/")
        if "%" in raw_path:
            segments = [_decoded(segment) for segment in segments]
        end, values = _descend(self._root, segments, wanted)
        allowed: set[str] = set()
        if end is None:
            values = []
            end = _search(self._root, segments, 1, (wanted, values, allowed))
        if end is not None:
            return end.route, dict(zip(end.names, values, strict=True))
        if allowed:
            raise Unrecognized(
                f"This path does not know the method {method}",
                status=405,
                headers={"Allow": ", ".join(sorted(allowed | {"OPTIONS"}))},
            )
        raise Unrecognized("This server does not know this path")


def _descend(node: _Node, segments: list[str], method: str) -> tuple[_End | None, list[str]]:
    """The end that is reached without a step back, as nearly every path's is, and the values."""
    values: list[str] = []
    for segment in segments[1:]:
        static = node.static.get(segment)
        if static is not None:
            node = static
        elif node.parameter is not None and segment:
            node = node.parameter
            values.append(segment)
        else:
            return None, values
    return node.ends.get(method), values


def _search(
    node: _Node, segments: list[str], at: int, wanted: tuple[str, list[str], set[str]]
) -> _End | None:
    """Depth first, static before parameter; `wanted` is (method, values, methods seen instead)."""
    if at == len(segments):
        method, _, allowed = wanted
        end = node.ends.get(method)
        if end is None:
            allowed.update(node.ends)
        return end
    segment = segments[at]
    static = node.static.get(segment)
    if static is not None:
        end = _search(static, segments, at + 1, wanted)
        if end is not None:
            return end
    if node.parameter is None or not segment:
        return None
    values = wanted[1]
    values.append(segment)
    end = _search(node.parameter, segments, at + 1, wanted)
    if end is None:
        values.pop()
    return end


def _decoded(segment: str) -> str:
    try:
        decoded = unquote(segment, errors="strict")
    except UnicodeDecodeError:
        raise InvalidParam("The path is not percent-encoded UTF-8") from None
    if "\0" in decoded:  # nothing that has a name has one with NUL, and Postgres can't store it
        raise InvalidParam("The path may not contain NUL (U+0000)")
    return decoded
