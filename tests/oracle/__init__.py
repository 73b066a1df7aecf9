"""Our auth rules and state resolution against Synapse's, on random rooms."""
