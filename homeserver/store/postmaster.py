"""Which process runs PostgreSQL on a data directory, as `postmaster.pid` and /proc tell.

Rules of this file: a process id alone proves nothing, it may be anybody's by now.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from homeserver.store.postgres_wheel import EmbeddedError

SOCKET_NAME = ".s.PGSQL.5432"
POLL_SECONDS = 0.01
ORPHAN_SECONDS = 60.0
PROC = Path("/proc")
PROC_EXISTS = (PROC / "self" / "cwd").exists()


class Postmaster:
    """What `postmaster.pid` in `directory` says; `pid` is None if no such PostgreSQL runs."""

    def __init__(self, directory: Path) -> None:
        lines = _pid_file(directory)
        pid = pid_in(directory)
        self.pid = pid if pid is not None and is_postgres_of(pid, directory) else None
        self.socket_directory = Path(lines[4].strip()) if len(lines) > 4 else None
        self.ready = self.pid is not None and len(lines) > 7 and lines[7].strip() == "ready"

    @property
    def socket_directory_exists(self) -> bool:
        """False only if it ran, but nobody could connect any more."""
        if self.socket_directory is None or not self.ready:
            return True
        return (self.socket_directory / SOCKET_NAME).exists()


def _pid_file(directory: Path) -> list[str]:
    try:
        return (directory / "postmaster.pid").read_text(errors="replace").splitlines()
    except OSError:
        return []


def pid_in(directory: Path) -> int | None:
    lines = _pid_file(directory)
    return int(lines[0]) if lines and lines[0].strip().isdigit() else None


def pid_exists(pid: int | None) -> bool:
    if pid is None:
        return False
    try:
        os.kill(pid, 0)
    except OSError as error:
        return isinstance(error, PermissionError)
    return True


def is_postgres_of(pid: int, directory: Path) -> bool:
    """Is the living process `pid` a PostgreSQL on `directory`? (It may be anybody's by now.)"""
    process = PROC / str(pid)
    if PROC_EXISTS:
        try:
            program = (process / "cmdline").read_bytes().split(b"\0")[0]  # a zombie has none
            return program.endswith(b"postgres") and _works_in(process, directory)
        except OSError:
            return False
    command = ["ps", "-p", str(pid), "-o", "command="]
    shown = subprocess.run(command, capture_output=True, check=False).stdout.decode()
    return f"/postgres -D {directory} " in shown


def _works_in(process: Path, directory: Path) -> bool:
    """A PostgreSQL's working directory is its data directory."""
    try:
        return (process / "cwd").samefile(directory)
    except OSError:
        return False


def wait_for_orphans(directory: Path) -> None:
    """After a crash of its first process, until the other ones have noticed and are gone.

    Where /proc can't tell, PostgreSQL itself refuses to start beside them.
    """
    deadline = time.monotonic() + ORPHAN_SECONDS
    while PROC_EXISTS and any(_works_in(p, directory) for p in PROC.glob("[0-9]*")):
        if time.monotonic() > deadline:
            raise EmbeddedError(f"processes of an old PostgreSQL still work in {directory}")
        time.sleep(POLL_SECONDS)
