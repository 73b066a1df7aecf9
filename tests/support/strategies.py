"""Hypothesis strategies: JSON values and objects, as strict as a test needs them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from homeserver.protocol.canonical_json import MAX_INTEGER
from homeserver.protocol.room_versions import ROOM_VERSIONS, RoomVersion

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
integers = st.integers(-MAX_INTEGER, MAX_INTEGER)
_scalars = st.none() | st.booleans() | integers | texts
_loose_scalars = _scalars | st.integers() | st.floats(allow_nan=False, allow_infinity=False)


def _nested(scalars: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
        max_leaves=12,
    )


json_values = _nested(_scalars)
"""Values that canonical JSON allows."""
json_objects = st.dictionaries(texts, json_values, max_size=6)
loose_json_values = _nested(_loose_scalars)
"""With floats and integers of any size, as in room versions 1 to 5."""
loose_json_objects = st.dictionaries(texts, loose_json_values, max_size=6)
room_versions: st.SearchStrategy[RoomVersion] = st.sampled_from(list(ROOM_VERSIONS.values()))
