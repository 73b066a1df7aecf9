"""`python -m homeserver`."""

from homeserver.cli import main

main()
