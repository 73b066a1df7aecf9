"""Which members a device was told of is remembered within a budget."""

from __future__ import annotations

from homeserver.stream.sections.lazy_members import SentMembers

LAPTOP, PHONE = ("@a:x", "LAPTOP"), ("@a:x", "PHONE")


def test_a_member_counts_as_sent_from_its_answer_on() -> None:
    sent = SentMembers(10)
    sent.record(LAPTOP, "!r", ("@b:x", "$1"), upto=5)
    assert sent.knows(LAPTOP, "!r", ("@b:x", "$1"), since=5)
    assert not sent.knows(LAPTOP, "!r", ("@b:x", "$1"), since=4)
    assert not sent.knows(LAPTOP, "!r", ("@b:x", "$2"), since=5)
    assert not sent.knows(PHONE, "!r", ("@b:x", "$1"), since=5)


def test_the_device_that_synced_longest_ago_is_forgotten_first() -> None:
    sent = SentMembers(3)
    sent.record(LAPTOP, "!r", ("@b:x", "$1"), upto=1)
    sent.record(PHONE, "!r", ("@b:x", "$1"), upto=1)
    sent.record(LAPTOP, "!r", ("@c:x", "$2"), upto=2)
    sent.record(LAPTOP, "!r", ("@c:x", "$3"), upto=3)  # in place of the other
    assert len(sent) == 3
    sent.record(LAPTOP, "!r", ("@d:x", "$4"), upto=4)
    assert not sent.knows(PHONE, "!r", ("@b:x", "$1"), since=9)
    assert sent.knows(LAPTOP, "!r", ("@b:x", "$1"), since=9)
    assert len(sent) == 3


def test_who_starts_again_was_sent_nothing() -> None:
    sent = SentMembers(3)
    sent.record(LAPTOP, "!r", ("@b:x", "$1"), upto=1)
    sent.start_again(LAPTOP)
    sent.start_again(PHONE)
    assert not sent.knows(LAPTOP, "!r", ("@b:x", "$1"), since=9)
    assert len(sent) == 0


def test_one_device_alone_keeps_within_the_budget_too() -> None:
    sent = SentMembers(3)
    for number in range(10):
        sent.record(LAPTOP, "!r", (f"@{number}:x", "$1"), upto=1)
    assert len(sent) <= 3
