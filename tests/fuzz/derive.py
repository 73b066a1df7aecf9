"""Derives `client_server_api.json` from the OpenAPI files of the Matrix specification.

    python -m tests.fuzz.derive matrix-spec/data/api/client-server

What it keeps: method, path, parameters, bodies and answers of each operation, without prose.
The specification is by the Matrix.org Foundation, under the Apache License, Version 2.0.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.support.specification import DERIVED

METHODS = ("get", "put", "post", "delete")
KEPT = frozenset(
    (
        "type",
        "enum",
        "const",
        "pattern",
        "format",
        "minimum",
        "maximum",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "required",
    )
)
ONE = frozenset(("items", "additionalProperties", "not"))
MANY = frozenset(("allOf", "oneOf", "anyOf"))
NAMED = frozenset(("properties", "patternProperties"))


class Derivation:
    """Collects operations; schemas of other files become `$defs`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._definitions: dict[str, Any] = {}

    def derive(self) -> dict[str, Any]:
        operations = [
            operation
            for path in sorted(self._folder.glob("*.yaml"))
            for operation in self._operations(path)
        ]
        return {"operations": operations, "$defs": dict(sorted(self._definitions.items()))}

    def _operations(self, path: Path) -> Iterator[dict[str, Any]]:
        document = yaml.safe_load(path.read_text())
        base = document["servers"][0]["variables"]["basePath"]["default"]
        for template, item in document["paths"].items():
            for method in METHODS:
                if method in item:
                    yield self._operation(path, method, base + template, item)

    def _operation(
        self, path: Path, method: str, template: str, item: dict[str, Any]
    ) -> dict[str, Any]:
        operation = item[method]
        parameters = [*item.get("parameters", ()), *operation.get("parameters", ())]
        body = operation.get("requestBody", {}).get("content", {})
        answers = operation["responses"].items()
        return {
            "method": method.upper(),
            "path": template.strip(),  # one of two descriptions of /events ends in a space
            "parameters": [self._parameter(parameter, path) for parameter in parameters],
            "body": self._json(body, path),
            "answers": {
                str(status): schema
                for status, answer in answers
                if (schema := self._json(answer.get("content", {}), path)) is not None
            },
        }

    def _parameter(self, parameter: dict[str, Any], path: Path) -> dict[str, Any]:
        if "$ref" in parameter:
            path, parameter = _read(parameter["$ref"], path)
        return {
            "name": parameter["name"],
            "in": parameter["in"],
            "required": bool(parameter.get("required")),
            "schema": self._schema(parameter.get("schema", {}), path),
        }

    def _json(self, content: dict[str, Any], path: Path) -> Any:
        schema = content.get("application/json", {}).get("schema")
        return None if schema is None else self._schema(schema, path)

    def _schema(self, schema: Any, path: Path) -> Any:
        if not isinstance(schema, dict):
            return schema
        if "$ref" in schema:
            return self._reference(schema["$ref"], path)
        kept: dict[str, Any] = {}
        for key, value in schema.items():
            if key in KEPT:
                kept[key] = value
            elif key in ONE:
                kept[key] = self._schema(value, path)
            elif key in MANY:
                kept[key] = [self._schema(inner, path) for inner in value]
            elif key in NAMED:
                kept[key] = {name: self._schema(inner, path) for name, inner in value.items()}
        return kept

    def _reference(self, reference: str, path: Path) -> dict[str, str]:
        target, found = _read(reference, path)
        fragment = reference.partition("#")[2]
        root = self._folder.resolve().parents[1]
        key = f"{target.relative_to(root)}{fragment}".replace("/", ".")
        if key not in self._definitions:
            self._definitions[key] = {}
            self._definitions[key] = self._schema(found, target)
        return {"$ref": "#/$defs/" + key}


def _read(reference: str, path: Path) -> tuple[Path, Any]:
    """What a `$ref` in the file at `path` points to, and the file it is in."""
    file, _, fragment = reference.partition("#")
    target = (path.parent / file).resolve() if file else path.resolve()
    found = yaml.safe_load(target.read_text())
    for part in fragment.strip("/").split("/") if fragment else ():
        found = found[part]
    return target, found


if __name__ == "__main__":
    derived = Derivation(Path(sys.argv[1])).derive()
    DERIVED.write_text(json.dumps(derived, indent=1, ensure_ascii=False) + "\n")
    print(f"{len(derived['operations'])} operations in {DERIVED}")
