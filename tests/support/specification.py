"""Holds the answers that tests get against the response schemas of the specification.

JUDGE_ANSWERS=1 makes each test's client do so: what the schema refuses fails the test.
"""

from __future__ import annotations

import json
import os
import re
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from msgspec import Struct

JUDGES = os.environ.get("JUDGE_ANSWERS", "") not in ("", "0")
DERIVED = Path(__file__).parents[1] / "fuzz/client_server_api.json"
EXPLAINED = {
    # "oneOf": content, or a whole event. An event is an object as content is: both always match.
    ("GET", "/_matrix/client/v3/rooms/{roomId}/state/{eventType}/{stateKey}"): "valid under each",
    # Typing and receipts come here too, and are no room events.
    ("GET", "/_matrix/client/v3/events"): "is a required property",
    # Without a TURN server there is nothing to tell; clients know {}, and no empty `uris`.
    ("GET", "/_matrix/client/v3/voip/turnServer"): "is a required property",
    # The schema knows one algorithm; for others anything may be there.
    ("GET", "/_matrix/client/v3/room_keys/version"): "is not one of",
    ("GET", "/_matrix/client/v3/room_keys/keys/{roomId}/{sessionId}"): "$.session_data: ",
    # What isn't set is null, as clients and test suites expect.
    ("GET", "/_matrix/client/v3/rooms/{roomId}/joined_members"): "None is not of type",
}
"""Answers that the schema refuses and the text asks for: a part of what the judge says."""


class Operation(Struct, frozen=True):
    """An operation: of two that have the same, the schemas are the first one's."""

    method: str
    path: str


@cache
def api() -> dict[str, Any]:
    """What `tests.fuzz.derive` has made of the specification."""
    loaded: dict[str, Any] = json.loads(DERIVED.read_text())
    return loaded


def problem(operation: Operation, status: int, body: Any) -> str | None:
    """What is wrong with a decoded answer, if that isn't explained."""
    judge = _validator(operation.method, operation.path, str(status))
    error = None if judge is None else next(judge.iter_errors(body), None)
    if error is None:
        return None
    wrong = f"{error.json_path}: {error.message}"
    explained = EXPLAINED.get((operation.method, operation.path))
    return None if explained is not None and explained in wrong else wrong


def find(method: str, path: str) -> Operation | None:
    """The operation of a request; `path` is as it was sent."""
    return next((found for pattern, found in _patterns(method) if pattern.fullmatch(path)), None)


@cache
def _patterns(method: str) -> list[tuple[re.Pattern[str], Operation]]:
    """The operations of a method, those with the fewest parameters first."""
    operations = [
        Operation(method, each["path"]) for each in api()["operations"] if each["method"] == method
    ]
    operations.sort(key=lambda operation: operation.path.count("{"))
    return [
        (re.compile(re.sub(r"\\\{\w+\\\}", "[^/]*", re.escape(operation.path))), operation)
        for operation in operations
    ]


@cache
def _validator(method: str, path: str, status: str) -> Draft202012Validator | None:
    schemas = next(
        each["answers"]
        for each in api()["operations"]
        if (each["method"], each["path"]) == (method, path)
    )
    if status not in schemas:
        return None
    return Draft202012Validator({"$defs": api()["$defs"], "allOf": [schemas[status]]})
