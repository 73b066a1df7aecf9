"""`make bench`: what the hot path costs on this machine."""
