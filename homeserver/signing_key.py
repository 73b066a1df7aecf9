"""The file with the key that signs our events and requests: made once, kept for ever."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from homeserver.config import Config
from homeserver.protocol.signatures import Signer, generate_signing_key, read_signing_key


class SigningKeyError(Exception):
    """The key's file can't be used; the text says why."""


def load_signer(config: Config) -> Signer:
    """The server's signer; a key is made if there is none and the config doesn't name a file.

    Raises SigningKeyError.
    """
    path = config.signing_key_path
    if not path.exists() and config.signing_key is None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_signing_key(path, new_signing_key())
    try:
        key_id, key = read_signing_key(path.read_text(encoding="ascii"))
    except (OSError, ValueError) as error:
        raise SigningKeyError(
            f"{path}: no signing key: {error} (make one with `homeserver generate-signing-key`)"
        ) from error
    return Signer(config.server_name, key_id, key)


def new_signing_key() -> str:
    """A new key as the line that its file holds."""
    return generate_signing_key(f"a_{secrets.token_hex(3)}", secrets.token_bytes(32))


def write_signing_key(path: Path, line: str) -> None:
    """A new file that only its owner can read. Raises FileExistsError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(line.strip() + "\n")
        file.flush()
        os.fsync(file.fileno())
