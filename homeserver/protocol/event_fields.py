"""`event_fields` of a filter: the properties of an event that a client wants to see.

client-server-api#post_matrixclientv3useruseridfilter, appendices#dot-separated-property-paths
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from homeserver.json_types import JsonObject

_Tree = dict[str, Any]  # property name -> subtree, or True for the whole property


@lru_cache(maxsize=4096)
def split_path(path: str) -> tuple[str, ...]:
    r"""The property names of a dot-separated path: `content.m\.relates_to` has two."""
    names: list[str] = []
    name = ""
    position = 0
    while position < len(path):
        character = path[position]
        following = path[position + 1 : position + 2]
        # "any literal dot or backslash found in a property name should be escaped with a
        # backslash [...] Other escape sequences are left as-is"
        if character == "\\" and following in (".", "\\"):
            name += following
            position += 1
        elif character == ".":
            names.append(name)
            name = ""
        else:
            name += character
        position += 1
    return (*names, name)


class EventFields:
    """The compiled list of paths; `project` keeps of an event just what they name."""

    __slots__ = ("_tree",)

    def __init__(self, paths: Iterable[str]) -> None:
        self._tree: _Tree = {}
        for path in paths:
            self._add(split_path(path))

    def _add(self, names: tuple[str, ...]) -> None:
        tree = self._tree
        for name in names[:-1]:
            subtree = tree.setdefault(name, {})
            if subtree is True:  # a shorter path already includes the whole property
                return
            tree = subtree
        tree[names[-1]] = True

    def project(self, event: JsonObject) -> JsonObject:
        """A new object with the asked properties; those that the event lacks are left out."""
        return _project(event, self._tree)


def _project(value: JsonObject, tree: _Tree) -> JsonObject:
    kept: JsonObject = {}
    for name, subtree in tree.items():
        if name not in value:
            continue
        if subtree is True:
            kept[name] = value[name]
        elif isinstance(value[name], dict):
            inner = _project(value[name], subtree)
            if inner:
                kept[name] = inner
    return kept
