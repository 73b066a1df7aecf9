"""The types of decoded JSON, and what goes wrong with JSON that others made."""

from __future__ import annotations

from typing import Any

JsonObject = dict[str, Any]

BAD_JSON = (ValueError, RecursionError)
"""What decoding raises: it is no JSON, no UTF-8 or of another form (all of them ValueErrors), or
nested so deeply that it can't be read."""
