"""What other servers (or those who pretend to be some) can do to our memory: little."""

from __future__ import annotations

import pytest

from homeserver.http.metrics import MAX_ERRCODES, Metrics
from homeserver.remote import availability
from homeserver.remote.availability import Availability
from homeserver.remote.errors import RemoteRefusal
from homeserver.remote.published_keys import BadKeys, read_published_keys


def test_only_so_many_failing_servers_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(availability, "MAX_OUTAGES", 3)
    known = Availability(lambda: 1000)
    for number in range(10):
        known.failed(f"{number}.test")
    outages, ended = known.take_changes()
    assert {outage.destination for outage in outages} == {"7.test", "8.test", "9.test"}
    assert set(ended) == {f"{number}.test" for number in range(7)}
    assert not known.is_backing_off("0.test")
    assert known.is_backing_off("9.test")


def test_changes_that_could_not_be_written_are_taken_again() -> None:
    known = Availability(lambda: 1000)
    known.failed("down.test")
    known.failed("back.test")
    known.take_changes()
    known.is_there("back.test")
    outages, ended = known.take_changes()
    assert (outages, ended) == ([], ["back.test"])
    known.note_changed(["down.test", "back.test"])
    outages, ended = known.take_changes()
    assert ([o.destination for o in outages], ended) == (["down.test"], ["back.test"])


@pytest.mark.parametrize("errcode", ["M_" + "X" * 200, "not a code", "M_UNKNOWN_TOKEN", 7, None])
def test_what_is_no_errcode_is_not_passed_on(errcode: object) -> None:
    refusal = RemoteRefusal("a.test", 404, {"errcode": errcode, "error": "no"})
    assert refusal.body()["errcode"] == "M_UNKNOWN"


def test_an_errcode_of_another_server_is_passed_on() -> None:
    refusal = RemoteRefusal("a.test", 403, {"errcode": "ORG.EXAMPLE_NO", "error": "no"})
    assert refusal.body()["errcode"] == "ORG.EXAMPLE_NO"


def test_only_so_many_errcodes_are_counted() -> None:
    metrics = Metrics()
    for number in range(2 * MAX_ERRCODES):
        metrics.count_error(f"M_{number}")
    assert len(metrics.errors) == MAX_ERRCODES + 1
    assert metrics.errors["other"] == MAX_ERRCODES


@pytest.mark.parametrize("until", [-(10**30), 10**30, "1", None, True])
def test_keys_are_valid_until_a_time_that_can_be_stored(until: object) -> None:
    published = {"server_name": "a.test", "valid_until_ts": until, "verify_keys": {}}
    with pytest.raises(BadKeys, match="valid_until_ts"):
        read_published_keys(published, "a.test", 0)
