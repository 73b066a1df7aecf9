"""Registrations of application services."""

from __future__ import annotations

from homeserver.protocol.app_services import parse_registration


def test_users_of_other_servers_are_in_no_namespace() -> None:
    service = parse_registration(
        {
            "id": "x",
            "url": None,
            "as_token": "a",
            "hs_token": "h",
            "sender_localpart": "bot",
            "namespaces": {"users": [{"exclusive": False, "regex": "@_x_.*"}]},
        },
        "hs.test",
    )
    assert service.has_user("@_x_ghost:hs.test")
    assert service.has_user("@bot:hs.test")
    assert not service.has_user("@_x_ghost:other.test")
    assert not service.has_user("@bot:other.test")
