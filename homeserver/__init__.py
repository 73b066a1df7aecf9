"""A minimal, complete Matrix homeserver on Postgres."""

__version__ = "0.1.0"
