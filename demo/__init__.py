"""Three federated servers on this machine, ready for three clients: `make demo`."""
