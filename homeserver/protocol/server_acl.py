"""Which servers a room lets take part: its `m.room.server_acl`.

client-server-api#server-access-control-lists-acls-for-rooms
"""

from __future__ import annotations

import ipaddress
from typing import Any

from homeserver.json_types import JsonObject
from homeserver.protocol.globs import whole_glob


class ServerAcl:
    """The lists of one event; what is no list of strings counts as absent."""

    __slots__ = ("_allow", "_allow_ip_literals", "_deny")

    def __init__(self, content: JsonObject) -> None:
        self._allow_ip_literals = content.get("allow_ip_literals") is not False
        self._allow = [whole_glob(glob) for glob in _strings(content.get("allow"))]
        self._deny = [whole_glob(glob) for glob in _strings(content.get("deny"))]

    def allows(self, server_name: str) -> bool:
        """May a server, named with or without its port, take part?"""
        host = _host(server_name)
        # "If the server name is an IP address (v4 or v6) literal, and `allow_ip_literals` is
        # present and `false`, deny."
        if not self._allow_ip_literals and _is_ip_literal(host):
            return False
        # "If the server name matches an entry in the `deny` list, deny. If the server name matches
        # an entry in the `allow` list, allow. Otherwise, deny."
        if any(glob.matches(host) for glob in self._deny):
            return False
        return any(glob.matches(host) for glob in self._allow)


def _strings(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def _host(server_name: str) -> str:
    if server_name.startswith("["):
        return server_name.partition("]")[0] + "]"
    return server_name.partition(":")[0]


def _is_ip_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True
