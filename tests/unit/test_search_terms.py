"""How texts and queries are cut into what search compares."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeserver.protocol.search_terms import MAX_TERMS, highlights, query_terms, terms


def found_by(text: str, query: str) -> bool:
    have = terms(text)
    return all(
        any(term.startswith(wanted) for term in have) if begins else wanted in have
        for wanted, begins in query_terms(query).items()
    )


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("Hello, World!", "hello"),
        ("Hello, World!", "WORLD hello"),
        ("we edited it", "edit"),
        ("Un café près d'ici", "cafe pres"),
        ("STRASSE", "straße"),
        ("日本語のテスト", "日本語"),
        ("日本語のテスト", "テスト"),
        ("私の猫", "猫"),
        ("猫が好き", "猫"),
        ("Matrix使います", "matrix 使い"),
        ("สวัสดีครับ", "สวัสดี"),
        ("한국어 문장입니다", "한국어"),
        ("fullwidth ＡＢＣ", "abc"),
    ],
)
def test_a_text_is_found_by_what_it_says(text: str, query: str) -> None:
    assert query_terms(query)
    assert found_by(text, query)


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("hello world", "hello moon"),
        ("a lot", "al"),
        ("bored", "red"),
        ("日本語", "本日"),
        ("東の京", "東京"),
    ],
)
def test_a_text_is_not_found_by_what_it_does_not_say(text: str, query: str) -> None:
    assert not found_by(text, query)


def test_words_to_highlight_are_those_of_the_query() -> None:
    assert highlights("Hello, 日本語 hello") == ["hello", "日本語"]


def test_a_query_of_signs_has_no_terms() -> None:
    assert query_terms("?! … ()") == {}


@given(st.text())
def test_every_text_is_found_by_itself(text: str) -> None:
    assert found_by(text, text)


@given(st.text(max_size=300))
def test_terms_need_no_quoting(text: str) -> None:
    for term in terms(text):
        assert not set(term) & set("'\\\0 :&|!()<>*")


def test_long_texts_have_a_bounded_number_of_terms() -> None:
    text = " ".join(f"word{n}" for n in range(3 * MAX_TERMS))
    assert len(terms(text)) == MAX_TERMS
