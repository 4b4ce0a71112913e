"""`python -m segedge` is `segedge`."""

from segedge.cli.main import main

main()
