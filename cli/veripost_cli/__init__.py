"""VeriPost on the command line. `app` is the entry point; `docs/cli.md` is its manual."""

__version__ = "0.1.0"
