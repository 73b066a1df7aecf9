"""Random lives of rooms, seen through the answers that clients fold (`make test-model`)."""
