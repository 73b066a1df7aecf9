"""`make soak`: two servers of ours and a real Synapse live through random traffic, restarts,
crashes and partitions; afterwards all three must have the same rooms.

`plan` says what happens (by SEED), `traffic` and `faults` do it, `compare` judges the end.
"""
