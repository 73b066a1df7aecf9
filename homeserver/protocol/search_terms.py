"""The words of a text, as search compares them; for scripts without spaces, pairs of characters.

Rules of this file: texts and queries are cut in the same way, so a query finds what it is part of.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

MAX_TERMS = 5000
"""Of one text."""
MAX_QUERY_TERMS = 50
_MAX_LENGTH = 64
_MIN_BEGINNING = 3

# Scripts that are written without spaces between words: Thai, Lao, Myanmar, Khmer, kana, Han.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_RUN = re.compile(f"(?P<unspaced>[{_UNSPACED}]+)|(?P<word>[^\\W_{_UNSPACED}]+)")
_ASCII_WORD = re.compile("[a-z0-9]+")
_MARKS = re.compile("[\u0300-\u036f]")


def normalised(text: str) -> str:
    """Without regard to case, width and the accents of Latin, Greek and Cyrillic letters."""
    folded = unicodedata.normalize("NFKD", text).casefold()
    return unicodedata.normalize("NFC", _MARKS.sub("", folded))


def terms(text: str) -> set[str]:
    """What a text is found by, at most MAX_TERMS."""
    found: set[str] = set()
    for run, is_word in _runs(text):
        if is_word:
            found.add(run[:_MAX_LENGTH])
        else:
            found.update(run[at : at + 2] for at in range(len(run)))
        if len(found) >= MAX_TERMS:
            break
    return found


def query_terms(text: str) -> dict[str, bool]:
    """The terms that a text must all have to be found by this query.

    True: it is enough that a term of the text begins with it ("edit" finds "edits").
    """
    found: dict[str, bool] = {}
    for run, is_word in _runs(text):
        if is_word:
            found[run[:_MAX_LENGTH]] = _MIN_BEGINNING <= len(run) < _MAX_LENGTH
        elif len(run) == 1:
            found[run] = True
        else:
            found.update(dict.fromkeys((run[at : at + 2] for at in range(len(run) - 1)), False))
        if len(found) >= MAX_QUERY_TERMS:
            break
    return found


def highlights(text: str) -> list[str]:
    """The words of a query as a client may highlight them."""
    return list(dict.fromkeys(run for run, _ in _runs(text)))[:MAX_QUERY_TERMS]


def _runs(text: str) -> Iterator[tuple[str, bool]]:
    """The runs of letters and digits, each with whether it is a word that stands between spaces."""
    if text.isascii():
        for word in _ASCII_WORD.findall(text.lower()):
            yield word, True
        return
    for match in _RUN.finditer(normalised(text)):
        yield match[0], match["word"] is not None
