"""`python -m lathe` is `lathe`."""

from lathe.cli.main import run

run()
