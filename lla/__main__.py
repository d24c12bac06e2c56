"""`python -m lla` is the command `lla`."""

from lla.cli import app

app(prog_name="lla")
