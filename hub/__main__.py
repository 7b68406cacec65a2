"""`python -m hub` is `edge-hub`."""

from hub.cli import main

main()
