"""How users change their push rules. client-server-api#push-rules-api"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from weakref import WeakValueDictionary

from homeserver.errors import TooLarge
from homeserver.protocol.push_rules import UserRules, decode_rules, encode_rules, follow_upgrade
from homeserver.store.account_data import AccountDataRow
from homeserver.stream.changes import AccountDataChange
from homeserver.stream.push_rules import PUSH_RULES, LivePushRules
from homeserver.stream.writer import StreamWriter

MAX_BYTES = 128 * 1024
"""Of all that one user changed. A rule that mutes a room takes about a hundred bytes."""


class PushRuleSettings:
    """Each user's rules are changed one change at a time; every device is told by `/sync`."""

    def __init__(self, rules: LivePushRules, writer: StreamWriter) -> None:
        self.defaults = rules.defaults
        self._rules = rules
        self._writer = writer
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def get(self, user_id: str) -> UserRules:
        """What the user has of their own and changed of the defaults."""
        return decode_rules((await self._rules.get(user_id)).stored)

    async def account_data(self, user_id: str) -> bytes:
        """The content of the user's `m.push_rules`, as account data shows it."""
        return self._rules.served(user_id, (await self._rules.get(user_id)).stored)

    async def change(self, user_id: str, change: Callable[[UserRules], UserRules]) -> None:
        """Apply one of the changes of `protocol.push_rules`. Raises TooLarge and what it raises."""
        lock = self._locks.setdefault(user_id, asyncio.Lock())
        async with lock:
            standing = (await self._rules.get(user_id)).stored
            changed = encode_rules(change(decode_rules(standing)))
            if changed == standing:
                return
            if len(changed) > max(MAX_BYTES, len(standing)):
                raise TooLarge(f"Push rules may take at most {MAX_BYTES} bytes. Delete some first.")
            position = self._writer.allocate()
            row = AccountDataRow(user_id, "", PUSH_RULES, changed, position)
            await self._writer.append(AccountDataChange(position, row))

    async def follow_upgrade(self, user_id: str, old_room_id: str, new_room_id: str) -> None:
        """Give the new room the rules of the one it replaces."""
        await self.change(user_id, lambda rules: follow_upgrade(rules, old_room_id, new_room_id))
