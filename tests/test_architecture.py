"""The floors of the house hold: imports go only downward (replaced by the full proof soon)."""

from __future__ import annotations

import homeserver


def test_the_package_imports() -> None:
    assert homeserver.__name__ == "homeserver"
