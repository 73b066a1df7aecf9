"""The benchmark runs: it is of no use if it broke unnoticed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.support.process import ROOT, environment


def test_the_benchmark_gives_figures_for_each_scenario(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    options = ["--quick", "--scenarios", "send,messages,fan-out", "--json", str(file)]
    done = subprocess.run(
        [sys.executable, "-m", "bench", *options],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(file.read_text())
    send = figures["send, 10 senders, 10 rooms"]
    assert send["operations"] == 300
    assert 0 < send["server_cpu_ms"] < 50
    assert send["wal_bytes"] > 500
    assert figures["/messages, 100 events"]["p99_ms"] > 0
    assert figures["one message to 20 long-polls"]["operations"] == 5
