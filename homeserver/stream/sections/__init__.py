"""The sections of a `/sync` response, one module each."""
