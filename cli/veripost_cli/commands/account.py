"""`veripost login` and `veripost logout`."""

from __future__ import annotations

import sys

import click

from veripost_cli import logins
from veripost_cli.exits import Exit
from veripost_cli.logins import DEFAULT_KEY_HEADER, Login
from veripost_cli.output import GOOD
from veripost_cli.session import Session, command

_LOOPBACK = ("http://127.0.0.1", "http://localhost", "http://[::1]")


@click.command("login")
@click.argument("address", required=False, metavar="[URL]")
@click.option("--key-stdin", is_flag=True, help="Read the API key from standard input instead of asking.")
@click.option(
    "--key-header", default=DEFAULT_KEY_HEADER, show_default=True, help="Header that carries the key."
)
@command
def login_command(session: Session, *, address: str | None, key_stdin: bool, key_header: str) -> Exit:
    """Ask for the API's address and a key, try them, and store them for this user.

    An empty key stores the address alone. Environment variables beat what is stored: VERIPOST_URL,
    VERIPOST_API_KEY, VERIPOST_API_KEY_HEADER.
    """
    address = (address or click.prompt("Address of VeriPost's API", err=True)).strip().rstrip("/")
    if key_stdin:
        key = sys.stdin.readline()
    else:
        key = click.prompt("API key", hide_input=True, default="", show_default=False, err=True)
    login = Login(address, logins.check_key(key) if key.strip() else None, key_header)
    if login.key and address.startswith("http://") and not address.startswith(_LOOPBACK):
        raise click.UsageError(
            "That address has no TLS: anybody on the way could read the key. Use https://."
        )
    with session.client_of(login) as client:
        health = client.health()
        next(client.packages(most=1), None)  # unlike health, this needs the key
    path = logins.store(login)
    session.output.line(f"✓ VeriPost {health.version} at {address} answers; stored in {path}.", GOOD)
    session.output.record({"url": address, "version": health.version, "stored_at": str(path)})
    return Exit.OK


@click.command("logout")
@command
def logout_command(session: Session) -> Exit:
    """Delete the stored address and key."""
    path = logins.stored_at()
    was_there = path.exists()
    path.unlink(missing_ok=True)
    session.output.line("Forgotten." if was_there else "Nothing was stored.")
    session.output.record({"forgotten": was_there})
    return Exit.OK
