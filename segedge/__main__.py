"""`python -m segedge` is `segedge`."""

from segedge.cli.main import run

run()
