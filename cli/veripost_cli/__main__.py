"""`python -m veripost_cli`."""

from veripost_cli.app import main

main()
