"""What becomes of EDUs whose content can't be dealt with."""

from __future__ import annotations

from typing import Any

import pytest

from homeserver.errors import BadJson, Unavailable
from homeserver.json_types import JsonObject
from homeserver.services.incoming_edus import IncomingEdus

nothing: Any = None


def incoming(taken: list[str]) -> IncomingEdus:
    """Takes EDUs of the type `test`, by what their content asks for."""

    async def take(origin: str, content: JsonObject) -> None:
        if content["what"] == "bad":
            raise BadJson("no")
        if content["what"] == "database away":
            raise Unavailable("later")
        taken.append(content["what"])

    edus = IncomingEdus(nothing, nothing, nothing, lambda: 0)
    edus.give_to("test", take)
    return edus


async def test_a_bad_edu_is_left_out() -> None:
    taken: list[str] = []
    contents = ["first", "bad", "second"]
    edus: list[Any] = [{"edu_type": "test", "content": {"what": what}} for what in contents]
    malformed: list[Any] = [None, {}, {"edu_type": []}, {"edu_type": "test"}, {"edu_type": "?"}]

    await incoming(taken).take("two.test", [*malformed, *edus])

    assert taken == ["first", "second"]


async def test_while_the_database_is_away_the_server_is_to_send_them_again() -> None:
    with pytest.raises(Unavailable):
        edu = {"edu_type": "test", "content": {"what": "database away"}}
        await incoming([]).take("two.test", [edu])
