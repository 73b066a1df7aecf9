"""Globs against a brute-force reading of the specification, and against hostile input."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeserver.protocol.globs import (
    folded,
    whole_glob,
    wildcard_pattern,
    word,
    word_glob,
)

globs = st.text(alphabet="ab-_*?", max_size=6)
texts = st.text(alphabet="ab-_ ", max_size=8)


def matches(glob: str, text: str) -> bool:
    """The plain recursive definition."""
    if not glob:
        return not text
    if glob[0] == "*":
        return matches(glob[1:], text) or (bool(text) and matches(glob, text[1:]))
    return bool(text) and glob[0] in ("?", text[0]) and matches(glob[1:], text[1:])


def is_boundary(text: str, place: int) -> bool:
    def is_word(index: int) -> bool:
        return 0 <= index < len(text) and (text[index].isalnum() or text[index] == "_")

    return not (is_word(place - 1) and is_word(place))


@given(globs, texts)
def test_whole_values(glob: str, text: str) -> None:
    assert whole_glob(glob).matches(text) == matches(glob, text)


@given(globs, texts)
def test_words(glob: str, text: str) -> None:
    places = range(len(text) + 1)
    expected = any(
        matches(glob, text[start:end]) and is_boundary(text, start) and is_boundary(text, end)
        for start in places
        for end in places
        if start <= end
    )
    assert word_glob(glob).matches(text) == expected


@given(st.text(alphabet="ab-_*?", min_size=1, max_size=6), texts)
def test_a_text_without_wildcards(name: str, text: str) -> None:
    expected = any(
        text.startswith(name, start)
        and is_boundary(text, start)
        and is_boundary(text, start + len(name))
        for start in range(len(text))
    )
    assert word(name).matches(text) == expected


@pytest.mark.parametrize(
    ("glob", "value", "matched"),
    [
        ("lunc?*", "Lunch plans", True),
        ("lunc?*", "LUNCH", True),
        ("lunc?*", " lunch", False),
        ("lunc?*", "lunc", False),
        ("a.c", "abc", False),
        ("*\n*", "a\nb", True),
    ],
)
def test_the_specifications_values(glob: str, value: str, matched: bool) -> None:
    assert whole_glob(glob).matches(value) is matched


@pytest.mark.parametrize(
    ("glob", "body", "matched"),
    [
        ("ex*ple", "An example event.", True),
        ("ex*ple", "exple", True),
        ("ex*ple", "An exciting triple-whammy", True),
        ("ex*ple", "simplex example2", False),
        ("cake", "Cakes", False),
        ("cake", "a piece of CAKE!", True),
        ("cake", "ſcakeſ", True),
        ("tea", "tea_time", False),
        ("@room", "hey @room:", True),
        ("c?ke", "a coke please", True),
    ],
)
def test_the_specifications_bodies(glob: str, body: str, matched: bool) -> None:
    assert word_glob(glob).matches(body) is matched


def test_only_the_star_is_a_wildcard_where_case_counts() -> None:
    pattern = wildcard_pattern(["m.*", "a?"])
    assert pattern.fullmatch("m.room")
    assert pattern.fullmatch("a?")
    assert not pattern.fullmatch("ab")
    assert not pattern.fullmatch("M.room")


@pytest.mark.parametrize(
    "glob", ["*a" * 40 + "*b", "a*" * 40 + "b", "?a*" * 30 + "b", "a*a", "*" * 99]
)
def test_hostile_patterns_and_texts_take_no_time(glob: str) -> None:
    text = "ca" * 30_000
    started = time.perf_counter()
    whole_glob(glob).matches(text)
    word_glob(glob).matches(text)
    word(glob).matches(text)
    assert time.perf_counter() - started < 0.5


@pytest.mark.parametrize(
    "code_points", [range(0x2500), range(0xA640, 0xAC00), range(0xFB00, 0xFB10)]
)
def test_folding_never_parts_what_matches_without_regard_to_case(code_points: range) -> None:
    by_fold = {chr(code): folded(chr(code)) for code in code_points}
    letters = "".join(by_fold)
    for letter, fold in by_fold.items():
        if letter.lower() != letter.upper():
            found = re.findall(re.escape(letter), letters, re.IGNORECASE)
            assert all(by_fold[other] == fold for other in found), letter


def test_a_letter_that_folds_to_two_is_still_one_character() -> None:
    assert whole_glob("stra?e").matches("STRAßE")
    assert not whole_glob("strasse").matches("straße")
