"""The house stands as ARCHITECTURE.md draws it: floors, siblings, the pure core, owners of tables.

Each failure names the line that breaks a rule, and says why the rule is there.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from homeserver.store.database import MigrationError, read_migrations

ROOT = Path(__file__).parents[1]
PACKAGE = "homeserver"

# From the ground up. A module of the package itself stands on the ground floor or at the top.
FLOORS = ("ground", "protocol", "store", "remote", "stream", "services", "http", "top")
TOP = {
    "__main__",
    "app",
    "cli",
    "cores",
    "federation",
    "logs",
    "offline",
    "register",
    "serve",
    "signing_key",
}
GROUND = {
    *(
        "background",
        "backoff",
        "clock",
        "config",
        "config_file",
        "errors",
        "histogram",
        "json_types",
        "lru_cache",
        "mail",
    ),
    *("passwords", "requester"),
}

# Folders whose files (or sub-packages) are strangers to each other.
STRANGERS = ("services", "http.client", "http.federation", "http.media", "http.admin")
DOORS = (*STRANGERS[1:], "http.oauth")  # of which the last is one chapter in several files

# All that the pure core may use: no I/O, no clock, no chance, no task among them.
PURE_IMPORTS = {
    *("__future__", "abc", "base64", "binascii", "bisect", "collections", "copy", "dataclasses"),
    *("enum", "fnmatch", "functools", "graphlib", "hashlib", "heapq", "hmac", "itertools"),
    *("ipaddress", "json", "math", "operator", "re", "string", "struct", "types", "typing"),
    *("sys.intern", "unicodedata", "urllib.parse"),
    *("canonicaljson", "immutables", "msgspec", "nacl"),
}
IMPURE_CALLS = {"open", "input", "print", "generate", "urandom", "getenv"}

SQL_WRITE = re.compile(
    r"\bINSERT\s+INTO\s+(?P<into>\w+)"
    r"|(?<!FOR )(?<!DO )(?<!KEY )\bUPDATE\s+(?:ONLY\s+)?(?P<update>(?!SET\b|OF\b)\w+)"
    r"|\bDELETE\s+FROM\s+(?:ONLY\s+)?(?P<delete>\w+)"
    r"|\bTRUNCATE\s+(?:TABLE\s+)?(?P<truncate>\w+)"
)
SQL_ANYWHERE = re.compile(
    r"\bSELECT\s[\s\S]*\sFROM\s|\bSELECT\s+\w+\(|\bINSERT\s+INTO\s|\bDELETE\s+FROM\s"
    r"|\bUPDATE\s+\w+\s+(?:AS\s+\w+\s+)?SET\b|\b(?:CREATE|ALTER|DROP)\s+(?:TABLE|INDEX)\b"
)
SQL_CALLS = {"fetchrow", "fetchval", "executemany", "copy_records_to_table"}


@dataclass(frozen=True, slots=True)
class Module:
    """One file of the package; `name` is dotted and without the package: `store.events`."""

    name: str
    path: Path
    tree: ast.Module

    @property
    def floor(self) -> int:
        head = self.name.partition(".")[0]
        if head in FLOORS:
            return FLOORS.index(head)
        return FLOORS.index("top" if head in TOP else "ground")

    def at(self, node: ast.AST) -> str:
        return f"{self.path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}"


def read_modules() -> dict[str, Module]:
    found = {}
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = list(path.relative_to(ROOT / PACKAGE).with_suffix("").parts)
        if parts[-1] == "__init__":
            parts.pop()
        name = ".".join(parts)
        found[name] = Module(name, path, ast.parse(path.read_text(encoding="utf-8"), str(path)))
    return found


MODULES = read_modules()


def imports(module: Module) -> Iterator[tuple[str, ast.stmt]]:
    """Each imported module of ours, each imported name of others', and the statement."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module.at(node)}: imports are absolute"
            source = node.module or ""
            for alias in node.names:
                inner = f"{source}.{alias.name}"
                yield (source if _ours(inner) and _ours(inner) not in MODULES else inner), node


def _ours(name: str) -> str | None:
    """The name without the package's, if it is ours."""
    if name == PACKAGE:
        return ""
    return name.removeprefix(PACKAGE + ".") if name.startswith(PACKAGE + ".") else None


def inner_imports(module: Module) -> Iterator[tuple[Module, ast.stmt]]:
    for name, node in imports(module):
        ours = _ours(name)
        if ours:
            assert ours in MODULES, f"{module.at(node)}: there is no module {name}"
            yield MODULES[ours], node


def strings(module: Module) -> Iterator[tuple[str, ast.AST]]:
    """Each string of a module that isn't a docstring; f-strings with `{}` for their holes."""
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    inside: set[int] = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.JoinedStr):
            parts = [v.value if isinstance(v, ast.Constant) else "{}" for v in node.values]
            inside.update(map(id, node.values))
            yield "".join(map(str, parts)), node
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in docstrings | inside
        ):
            yield node.value, node


def calls(module: Module) -> Iterator[tuple[str, ast.Call]]:
    """The last name of each called thing: `fetchrow` of `connection.fetchrow(...)`."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", None) or getattr(node.func, "id", None)
            if name:
                yield name, node


def report(broken: list[str]) -> None:
    if broken:
        pytest.fail("\n" + "\n".join(broken), pytrace=False)


def test_every_module_has_a_floor() -> None:
    known = {*FLOORS, *TOP, *GROUND, ""}
    report(
        [
            f"{module.path.relative_to(ROOT)}: stands on no floor. Put it into one of"
            f" {', '.join(FLOORS[1:-1])}, or name it in GROUND or TOP of this test."
            for module in MODULES.values()
            if module.name.partition(".")[0] not in known
        ]
    )


def test_imports_go_only_downward() -> None:
    report(
        [
            f"{module.at(node)}: {module.name} ({FLOORS[module.floor]}) imports {other.name}"
            f" ({FLOORS[other.floor]}), which stands above it. What both need goes down a floor;"
            " where data has to flow upward, the upper one follows the stream."
            for module in MODULES.values()
            for other, node in inner_imports(module)
            if other.floor > module.floor
        ]
    )


def test_siblings_are_strangers() -> None:
    report(
        [
            f"{module.at(node)}: {module.name} imports its sibling {other.name}. What two siblings"
            " need goes a floor down; what one request needs of two, its handler composes."
            for module in MODULES.values()
            for other, node in inner_imports(module)
            if _are_strangers(module.name, other.name)
        ]
    )


def _are_strangers(name: str, other: str) -> bool:
    if _door(name) and _door(other) and _door(name) != _door(other):
        return True
    return any(
        _sibling(folder, name)
        and _sibling(folder, other)
        and _sibling(folder, name) != _sibling(folder, other)
        for folder in STRANGERS
    )


def _door(name: str) -> str | None:
    """`client` of `http.client.rooms`: the doors are strangers to each other too."""
    return next((f for f in DOORS if name.startswith(f + ".")), None)


def _sibling(folder: str, name: str) -> str | None:
    """`rooms` of `services.rooms` and of `services.rooms.creation`."""
    inside = name.removeprefix(folder + ".")
    return inside.partition(".")[0] if inside != name else None


def test_there_is_no_import_cycle() -> None:
    graph = {
        module.name: {other.name for other, _ in inner_imports(module) if other is not module}
        for module in MODULES.values()
    }
    finished: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            cycle = " -> ".join((*path[path.index(name) :], name))
            pytest.fail(
                f"Import cycle: {cycle}. None of these can be understood or tested without the"
                " others: take what they share into a module of its own.",
                pytrace=False,
            )
        if name not in finished:
            for other in sorted(graph[name]):
                visit(other, (*path, name))
            finished.add(name)

    for name in sorted(graph):
        visit(name, ())


def test_the_core_is_pure() -> None:
    broken = []
    for module in MODULES.values():
        if FLOORS[module.floor] != "protocol":
            continue
        for name, node in imports(module):
            if _ours(name) is None and not _is_pure(name):
                broken.append(f"{module.at(node)}: imports {name}")
        for name, call in calls(module):
            if name in IMPURE_CALLS:
                broken.append(f"{module.at(call)}: calls {name}()")
        broken += [
            f"{module.at(node)}: is asynchronous"
            for node in ast.walk(module.tree)
            if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith)
        ]
    report(
        [
            f"{line}. The core has no I/O, no task, no clock and no chance: hand it what it needs"
            " as an argument (a pure module of the standard library may join PURE_IMPORTS)."
            for line in broken
        ]
    )


def _is_pure(name: str) -> bool:
    return any(name == pure or name.startswith(pure + ".") for pure in PURE_IMPORTS)


def migrated_tables() -> set[str]:
    created = re.compile(r"CREATE\s+(?:UNLOGGED\s+)?TABLE\s+(?:IF\s+NOT\s+EXISTS\s+)?(\w+)", re.I)
    files = (ROOT / "migrations").glob("*.sql")
    tables = {name for file in files for name in created.findall(file.read_text())}
    return tables | {"schema_migrations"}


def test_migrations_are_numbered_without_gap_or_clash() -> None:
    try:
        read_migrations(ROOT / "migrations")
    except MigrationError as error:
        report([f"{error}. Whoever lands second takes the next free number."])


def writers() -> dict[str, dict[str, str]]:
    """table -> module -> a place where it writes."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for module in MODULES.values():
        if FLOORS[module.floor] != "store":
            continue
        for text, node in strings(module):
            for match in SQL_WRITE.finditer(text):
                table = next(name for name in match.groups() if name)
                found[table].setdefault(module.name, module.at(node))
        for name, call in calls(module):
            if name == "copy_records_to_table" and isinstance(call.args[0], ast.Constant):
                found[str(call.args[0].value)].setdefault(module.name, module.at(call))
    return found


def test_one_module_writes_a_table() -> None:
    report(
        [
            f"{table} is written by {' and by '.join(f'{m} ({at})' for m, at in places.items())}."
            " One module owns a table, so that its rules stand in one place: call the owner."
            for table, places in writers().items()
            if len(places) > 1
        ]
    )


def test_written_tables_are_made_by_a_migration() -> None:
    known = migrated_tables()
    report(
        [
            f"{next(iter(places.values()))}: no migration makes the table {table}"
            for table, places in writers().items()
            if table not in known
        ]
    )


def test_sql_stands_only_in_the_store() -> None:
    broken = []
    for module in MODULES.values():
        if FLOORS[module.floor] == "store":
            continue
        broken += [
            f"{module.at(node)}: SQL" for text, node in strings(module) if SQL_ANYWHERE.search(text)
        ]
        broken += [f"{module.at(c)}: {name}()" for name, c in calls(module) if name in SQL_CALLS]
    report(
        [
            f"{line} outside the store. A query stands in the one function that runs it, in the"
            " store module that owns the table."
            for line in broken
        ]
    )


def test_the_caller_owns_the_transaction() -> None:
    report(
        [
            f"{module.at(call)}: opens a transaction. Store functions take a connection; stream and"
            " services say what belongs together."
            for module in MODULES.values()
            if FLOORS[module.floor] == "store" and module.name != "store.database"
            for name, call in calls(module)
            if name == "transaction"
        ]
    )


def test_functions_are_short() -> None:
    limit = 60
    report(
        [
            f"{module.at(node)}: {node.name} has {node.end_lineno - node.lineno + 1} lines, the"
            f" limit is {limit}. Split it by subject."
            for module in MODULES.values()
            for node in ast.walk(module.tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and node.end_lineno is not None
            and node.end_lineno - node.lineno >= limit
        ]
    )
