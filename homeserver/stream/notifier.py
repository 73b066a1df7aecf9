"""Who sleeps until something that concerns them is published.

A wake carries no data: whoever is woken reads on from their own position. *Watch, read, sleep*, in
that order: a wake between reading and sleeping is remembered; one that finds nothing is harmless.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from homeserver.stream.changes import Change

Concerned = Callable[[Change], Iterable[str]]


class Watch:
    """One sleeper: woken when something was published, or not, by its deadline."""

    __slots__ = ("_closed", "_future", "_woken")

    def __init__(self) -> None:
        self._woken = False
        self._closed = False
        self._future: asyncio.Future[bool] | None = None

    def clear(self) -> None:
        """Forget earlier wakes; to be called before reading."""
        self._woken = False

    def wake(self) -> None:
        self._woken = True
        if self._future is not None and not self._future.done():
            self._future.set_result(True)

    @property
    def is_closed(self) -> bool:
        """Whether the server ends, so that there is no more sleeping."""
        return self._closed

    def close(self) -> None:
        """Never sleep again."""
        self._closed = True
        if self._future is not None:
            _expire(self._future)

    async def wait(self, deadline: float) -> bool:
        """Sleep until woken (True) or until `deadline`, in the event loop's time (False)."""
        if self._woken or self._closed:
            return self._woken and not self._closed
        loop = asyncio.get_running_loop()
        if loop.time() >= deadline:
            return False
        future: asyncio.Future[bool] = loop.create_future()
        self._future = future
        timer = loop.call_at(deadline, _expire, future)
        try:
            return await future
        finally:
            timer.cancel()
            self._future = None


def _expire(future: asyncio.Future[bool]) -> None:
    if not future.done():
        future.set_result(False)


class _Watching:
    """Puts a watch among those of a user, and takes it away at the block's end.

    A class, since each request of a long poll enters one: a generator costs three times as much.
    """

    __slots__ = ("_all", "_user_id", "_watch")

    def __init__(self, watches: dict[str, set[Watch]], user_id: str, closed: bool) -> None:
        self._all = watches
        self._user_id = user_id
        self._watch = Watch()
        if closed:
            self._watch.close()

    def __enter__(self) -> Watch:
        self._all.setdefault(self._user_id, set()).add(self._watch)
        return self._watch

    def __exit__(self, *_: object) -> None:
        watches = self._all[self._user_id]
        watches.discard(self._watch)
        if not watches:
            del self._all[self._user_id]


MAX_KNOWN = 200_000
"""Of so many users is known when news last concerned them: to-device messages name any users."""


class Notifier:
    """Wakes the watches of the users whom a batch concerns, each once.

    `concerned` says for each kind of change whom it concerns. Followers of everything (federation
    sender, pushers, application services) watch with `watch_all`.
    """

    def __init__(self, concerned: dict[type, Concerned]) -> None:
        self._concerned = concerned
        self._watches: dict[str, set[Watch]] = {}
        self._followers: set[Watch] = set()
        self._closed = False
        self._last_position: dict[str, int] = {}
        self._forgotten_upto = 0

    def __len__(self) -> int:
        return sum(map(len, self._watches.values()))

    def may_have_news(self, user_id: str, since: int) -> bool:
        """Whether anything published after `since`, while this server runs, concerned the user."""
        return self._last_position.get(user_id, self._forgotten_upto) > since

    def watch(self, user_id: str) -> AbstractContextManager[Watch]:
        """Watch what concerns a user, inside the block."""
        return _Watching(self._watches, user_id, self._closed)

    @contextmanager
    def watch_all(self) -> Iterator[Watch]:
        """Watch every publish."""
        watch = Watch()
        self._followers.add(watch)
        try:
            yield watch
        finally:
            self._followers.discard(watch)

    def wake(self, user_id: str, position: int) -> None:
        """Something published at a position concerns the user, as was found out only now."""
        self._last_position[user_id] = max(position, self._last_position.get(user_id, 0))
        for watch in self._watches.get(user_id, ()):
            watch.wake()

    def published(self, changes: Sequence[Change]) -> None:
        """Wake whom this batch concerns (called by the writer)."""
        for follower in self._followers:
            follower.wake()
        watches = self._watches
        last = self._last_position
        newest = changes[-1].position
        for change in changes:
            for user_id in self._concerned[type(change)](change):
                if last.get(user_id) != newest:
                    last[user_id] = newest
                    for watch in watches.get(user_id, ()):
                        watch.wake()
        if len(last) > MAX_KNOWN:
            self._forget()

    def _forget(self) -> None:
        """Forget those whom nothing has concerned for longest; then they may have news."""
        by_position = sorted(self._last_position.items(), key=lambda item: item[1])
        kept = by_position[len(by_position) // 2 :]
        self._forgotten_upto = kept[0][1]
        self._last_position = dict(kept)

    def close(self) -> None:
        """End all waiting, now and from now on: the server shuts down."""
        self._closed = True
        for watches in self._watches.values():
            for watch in watches:
                watch.close()
