"""What every section of the config is made of."""

from __future__ import annotations

from msgspec import Meta, Struct


def about(text: str) -> Meta:
    """The explanation of an option, as the generated config shows it."""
    return Meta(description=text)


class Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all sections of the config share: immutable, by name only, no unknown keys."""
