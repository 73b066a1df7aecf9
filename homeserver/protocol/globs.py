"""Glob-style patterns that cannot be made slow: each is tried once over the text, left to right.

Rules of this file: the literal parts between the `*` are found one after another, each at its
first occurrence, in an atomic group. For globs the first occurrence is as good as any, so nothing
is ever tried again. Before that, a text that lacks one of the literal parts is refused by plain
substring search, which is many times cheaper. appendices#glob-style-matching
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache

_WORD = "(?-i:[A-Za-z0-9_])"  # without regard to case, these sets would take in other letters
# "A word boundary is defined as the start or end of the value, or any character not in the sets
# `[A-Z]`, `[a-z]`, `[0-9]` or `_`."
_BOUNDARY = f"(?:(?<!{_WORD})|(?!{_WORD}))"


class Glob:
    """A compiled glob. Equal globs are one object; case is disregarded."""

    __slots__ = ("_literals", "_match")

    def __init__(self, literals: Iterable[str], match: Callable[[str], object]) -> None:
        self._literals = tuple(folded(literal) for literal in literals if literal)
        self._match = match

    def matches(self, text: str, folded_text: str | None = None) -> bool:
        """`folded_text` is `folded(text)`, if the caller has it at hand."""
        if folded_text is None:
            folded_text = folded(text)
        for literal in self._literals:
            if literal not in folded_text:
                return False
        return self._match(text) is not None


@lru_cache(maxsize=4096)
def whole_glob(glob: str) -> Glob:
    """Matches whole values: `*` is any sequence of characters, `?` any one character."""
    pattern = re.compile(_whole(glob, question_mark=True), re.DOTALL | re.IGNORECASE)
    return Glob(re.split(r"[*?]", glob), pattern.fullmatch)


@lru_cache(maxsize=4096)
def word_glob(glob: str) -> Glob:
    """Matches "any substring of the value [...] which starts and ends at a word boundary"."""
    pattern = re.compile(_in_words(glob), re.DOTALL | re.IGNORECASE)
    return Glob(re.split(r"[*?]", glob), pattern.match)


@lru_cache(maxsize=4096)
def word(text: str) -> Glob:
    """As `word_glob`, for a text that has no wildcards, such as a display name."""
    pattern = re.compile(f"(?>.*?{_bounded(re.escape(text))})", re.DOTALL | re.IGNORECASE)
    return Glob([text], pattern.match)


def folded(text: str) -> str:
    """Two texts that match without regard to case are equal when folded (not always conversely)."""
    if text.isascii():
        return text.lower()
    return text.replace("\u0130", "i").replace("\u0131", "i").casefold()


def wildcard_pattern(globs: Iterable[str]) -> re.Pattern[str]:
    """Matches whole values that any of the globs matches; only `*` is a wildcard, case counts."""
    return re.compile("|".join(_whole(glob, question_mark=False) for glob in globs), re.DOTALL)


def _whole(glob: str, *, question_mark: bool) -> str:
    first, *middle = _parts(glob, question_mark=question_mark)
    if not middle:
        return first
    last = middle.pop()
    return first + "".join(f"(?>.*?{part})" for part in middle if part) + f".*{last}"


def _in_words(glob: str) -> str:
    first, *middle = _parts(glob, question_mark=True)
    if not middle:
        return f"(?>.*?{_bounded(first)})"
    last = middle.pop()
    # A `*` at an end reaches to the start or the end of the value, which are boundaries.
    found = [f"{_BOUNDARY}{first}"] if first else []
    found += [part for part in middle if part]
    found += [f"{last}{_BOUNDARY}"] if last else []
    return "".join(f"(?>.*?{part})" for part in found)


def _bounded(part: str) -> str:
    return f"{_BOUNDARY}{part}{_BOUNDARY}"


def _parts(glob: str, *, question_mark: bool) -> list[str]:
    """The patterns of what stands between the `*`."""
    parts = map(re.escape, glob.split("*"))
    return [part.replace(r"\?", ".") if question_mark else part for part in parts]
