"""Requests by chance for the operations of the specification: mostly sensible, often not quite.

Rules of this file: everything comes from one seeded `Random`, so a seed and a number name a
request; identifiers come from a world that exists (`World`), so that requests get past the door.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any
from urllib.parse import quote

Schema = Mapping[str, Any]

JUNK = (
    "",
    " ",
    "\0",
    "null",
    "0",
    "-1",
    "1e400",
    "a/b",
    "..",
    "%",
    "'\"\\",
    "x" * 300,
    "ü💣",
    "\u202e",
    "{}",
    "!",
    "@:",
    "#x",
    "$",
)
NUMBERS = (0, 1, -1, 2, 10, 100, 2**31, 2**53 - 1, 2**53, -(2**63), 2**64, 10**30, 0.5, -0.0, 1e300)
BROKEN_BODIES = (
    b"",
    b"{",
    b"[]",
    b"null",
    b"3",
    b'"x"',
    b"\xff\xfe",
    b'{"a":NaN}',
    b'{"a":"\\ud800"}',
    b'{"a":1,"a":2}',
    b'{"a":' + b"[" * 300 + b"]" * 300 + b"}",
    b'{"a":"' + b"x" * 100_000 + b'"}',
)
RAW_BODY_SHARE = 0.06
JUNK_SHARE = 0.12


@dataclass(frozen=True, slots=True)
class Request:
    """One request. `body` is None where there is none."""

    method: str
    path: str
    query: list[tuple[str, str]]
    body: bytes | None

    def __str__(self) -> str:
        query = "&".join(f"{quote(k)}={quote(v)}" for k, v in self.query)
        return f"{self.method} {self.path}{'?' if query else ''}{query} {self.body!r}"


@dataclass(slots=True)
class World:
    """Identifiers by the name of a parameter or field, or by format."""

    values: dict[str, list[str]] = field(default_factory=dict)

    def known(self, name: str, schema: Schema) -> list[str]:
        """What may stand under this name."""
        format_ = schema.get("format")
        return self.values.get(name) or (self.values.get(format_, []) if format_ else [])


class Generator:
    """Makes requests in a world."""

    def __init__(self, random: Random, definitions: Mapping[str, Schema], world: World) -> None:
        self._random = random
        self._definitions = definitions
        self._world = world

    def request(self, operation: Mapping[str, Any]) -> Request:
        """One request of an operation."""
        path = operation["path"]
        query: list[tuple[str, str]] = []
        for parameter in operation["parameters"]:
            name, schema = parameter["name"], parameter["schema"]
            if parameter["in"] == "path":
                path = path.replace(f"{{{name}}}", quote(self._text(name, schema), safe=""))
            elif parameter["in"] == "query" and self._chance(_share(parameter)):
                query += [(name, text) for text in self._query_values(name, schema)]
        body = None
        if operation["body"] is not None:
            body = self._body(operation["body"])
        elif operation["method"] in ("PUT", "POST"):
            body = b"{}"
        return Request(operation["method"], path, query, body)

    def _body(self, schema: Schema) -> bytes:
        if self._chance(RAW_BODY_SHARE):
            return self._random.choice(BROKEN_BODIES)
        return json.dumps(self._value("", schema, 0)).encode()

    def _query_values(self, name: str, schema: Schema) -> Sequence[str]:
        value = self._text(name, schema)
        if schema.get("type") == "array" and self._chance(0.5):
            return [value, self._text(name, schema)]
        return [value]

    def _text(self, name: str, schema: Schema) -> str:
        """A parameter of the path or the query."""
        known = self._world.known(name, schema)
        if name in self._world.values and name.startswith("timeout"):
            return self._random.choice(known)
        if self._chance(JUNK_SHARE):
            return self._random.choice(JUNK)
        if known:
            return self._random.choice(known)
        value = self._value(name, schema, 0)
        return value if isinstance(value, str) else json.dumps(value)

    def _value(self, name: str, schema: Any, depth: int) -> Any:
        schema = self._resolved(schema)
        if not isinstance(schema, dict) or depth > 8 or self._chance(JUNK_SHARE / 2):
            return self._anything(depth)
        known = self._world.known(name, schema)
        if known and schema.get("type") in (None, "string"):
            return self._random.choice(known)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self._random.choice(schema["enum"])
        for combined in ("oneOf", "anyOf"):
            if combined in schema:
                return self._value(name, self._random.choice(schema[combined]), depth + 1)
        return self._of_type(name, schema, depth)

    def _of_type(self, name: str, schema: Schema, depth: int) -> Any:
        kind = schema.get("type")
        if isinstance(kind, list):
            kind = self._random.choice(kind)
        if kind == "array":
            count = self._random.choice((0, 1, 1, 2, 3))
            return [self._value(name, schema.get("items"), depth + 1) for _ in range(count)]
        if kind == "object" or "properties" in schema or "allOf" in schema:
            return self._object(schema, depth)
        if kind == "boolean":
            return self._chance(0.5)
        if kind in ("integer", "number"):
            return self._random.choice(NUMBERS[:6]) if self._chance(0.8) else self._number()
        if kind == "null":
            return None
        if kind == "string":
            return self._random.choice(("x", "hello", "m.text", *JUNK))
        return self._anything(depth)

    def _object(self, schema: Schema, depth: int) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for part in schema.get("allOf", ()):
            inner = self._value("", part, depth)
            made |= inner if isinstance(inner, dict) else {}
        required = schema.get("required", ())
        for name, inner in schema.get("properties", {}).items():
            if self._chance(0.93 if name in required else 0.5):
                made[name] = self._value(name, inner, depth + 1)
        further = schema.get("additionalProperties")
        patterns = list(schema.get("patternProperties", {}).values())
        if isinstance(further, dict) or patterns:
            inner = further if isinstance(further, dict) else patterns[0]
            for _ in range(self._random.choice((0, 1, 2))):
                made[self._key()] = self._value("", inner, depth + 1)
        return made

    def _key(self) -> str:
        names = [value for values in self._world.values.values() for value in values]
        return self._random.choice(names) if self._chance(0.7) else self._random.choice(JUNK)

    def _anything(self, depth: int) -> Any:
        kind = self._random.randrange(7)
        if kind == 0:
            return None
        if kind == 1:
            return self._chance(0.5)
        if kind == 2:
            return self._number()
        if kind == 3 and depth < 4:
            return [self._anything(depth + 2) for _ in range(2)]
        if kind == 4 and depth < 4:
            return {self._random.choice(JUNK): self._anything(depth + 2)}
        return self._random.choice(JUNK)

    def _number(self) -> int | float:
        return self._random.choice(NUMBERS)

    def _resolved(self, schema: Any) -> Any:
        while isinstance(schema, dict) and "$ref" in schema:
            schema = self._definitions[schema["$ref"].removeprefix("#/$defs/")]
        return schema

    def _chance(self, share: float) -> bool:
        return self._random.random() < share


def _share(parameter: Mapping[str, Any]) -> float:
    """How often a parameter is given; without its timeout a long poll would take its time."""
    if parameter["name"] == "timeout":
        return 1.0
    return 0.9 if parameter["required"] else 0.5
