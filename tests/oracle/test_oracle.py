"""Our verdicts equal Synapse's: `make test-oracle`, with SYNAPSE_PYTHON and ORACLE_ROOMS."""

from __future__ import annotations

import os

import pytest

from tests.oracle.compare import compare

PYTHON = os.environ.get("SYNAPSE_PYTHON", "")
ROOMS = int(os.environ.get("ORACLE_ROOMS", "240"))


@pytest.mark.skipif(not PYTHON, reason="needs SYNAPSE_PYTHON: `make test-oracle` sets it up")
def test_every_verdict_on_random_rooms_equals_that_of_synapse() -> None:
    comparison = compare(PYTHON, ROOMS)
    assert comparison.differences == []
    assert comparison.compared["rooms"] == ROOMS
    assert comparison.compared["- of a conflict"] > ROOMS
    assert comparison.compared["- allowed"] > 10 * ROOMS
