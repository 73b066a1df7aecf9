"""A minimal, complete Matrix homeserver on Postgres."""

import sys

__version__ = "0.1.0"

# Room for JSON of `protocol.canonical_json.MAX_NESTING` levels beneath the stack of a request: the
# parsers and encoders, though written in C, count their levels as Python's.
sys.setrecursionlimit(max(sys.getrecursionlimit(), 1500))
