"""Whom the notifier knows to have news."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from homeserver.protocol.presence import UserPresence
from homeserver.stream import notifier
from homeserver.stream.changes import Change, PresenceChange
from homeserver.stream.notifier import Notifier


def concerned(change: Change) -> Iterable[str]:
    assert isinstance(change, PresenceChange)
    return change.concerned


def change(position: int, *user_ids: str) -> PresenceChange:
    presence = UserPresence("@somebody:hs.test", "online", None, 0, 0)
    return PresenceChange(position, presence, frozenset(user_ids))


def test_users_that_nobody_is_are_forgotten_and_nobody_misses_anything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(notifier, "MAX_KNOWN", 10)
    known = Notifier({PresenceChange: concerned})
    known.published([change(1, "@alice:hs.test")])
    known.published([change(2, "@bob:hs.test")])
    assert not known.may_have_news("@alice:hs.test", 1)
    for position in range(3, 30):
        known.published([change(position, f"@nobody{position}:hs.test")])
    with known.watch("@alice:hs.test") as watch:
        assert known.may_have_news("@alice:hs.test", 0)
        assert known.may_have_news("@bob:hs.test", 1)
        assert not known.may_have_news("@alice:hs.test", 29)
        watch.clear()
        known.published([change(30, "@alice:hs.test")])
    assert known.may_have_news("@alice:hs.test", 29)
    assert not known.may_have_news("@alice:hs.test", 30)
