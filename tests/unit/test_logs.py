"""The logs: readable, as JSON when asked, never with a secret."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from homeserver.config import Logging
from homeserver.logs import configure_logging, hide_secrets


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_json_is_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(Logging(format="json"))
    structlog.get_logger().info("hello", number=5, path=("a", "b"))
    (line,) = lines(capsys)
    assert (line["event"], line["level"], line["number"]) == ("hello", "info", 5)


def test_less_important_lines_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(Logging(format="json", level="warning"))
    structlog.get_logger().info("hello")
    structlog.get_logger().warning("beware")
    assert [line["event"] for line in lines(capsys)] == ["beware"]


def test_the_libraries_logs_come_here_too(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(Logging(format="json"))
    logging.getLogger("asyncio").error("task %s died", 7)
    (line,) = lines(capsys)
    assert (line["event"], line["logger"], line["level"]) == ("task 7 died", "asyncio", "error")


def test_a_traceback_is_shown_in_both_formats(capsys: pytest.CaptureFixture[str]) -> None:
    for form in ("json", "console"):
        configure_logging(Logging(format=form))
        try:
            raise KeyError("lost")
        except KeyError:
            structlog.get_logger().exception("failed")
        assert "KeyError: 'lost'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("access_token", "syt_abc"),
        ("password", "hunter2"),
        ("shared_secret", "hunter2"),
        ("url", "/sync?access_token=syt_abc&since=s1"),
        ("header", "Bearer syt_abc"),
        ("problem", "can't connect to postgresql://user:hunter2@host/db"),
    ],
)
def test_secrets_are_hidden(key: str, value: str) -> None:
    shown = str(hide_secrets(None, "info", {key: value})[key])
    assert "syt_abc" not in shown
    assert "hunter2" not in shown
    assert "(hidden)" in shown


def test_a_port_is_no_password() -> None:
    texts = {"one": "https://push.test:8443/notify", "two": "postgresql://db.test:5432/hs"}
    assert hide_secrets(None, "", dict(texts)) == texts
