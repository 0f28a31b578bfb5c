"""`veripost keys create|list|revoke`."""

from __future__ import annotations

from uuid import UUID

import click

from veripost_cli.exits import Exit
from veripost_cli.output import moment
from veripost_cli.session import Session, command


@click.group("keys")
def keys_command() -> None:
    """Make, list and revoke API keys. Needs a key that may do so."""


@keys_command.command("create")
@click.argument("client_name", metavar="NAME")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    required=True,
    help="What it may do: read, write or admin; repeatable.",
)
@click.option("--days", type=click.IntRange(1), help="How long it is valid.  [default: until it is revoked]")
@command
def create(session: Session, *, client_name: str, scopes: tuple[str, ...], days: int | None) -> Exit:
    """Make a key for NAME and print it, this once: only its hash is stored."""
    made = session.client.create_key(client_name, scopes, days=days)
    session.output.record(made)
    session.output.note(f"A key for {made.client_name} ({', '.join(made.scopes)}). It is shown only now:")
    session.output.line(made.key)
    return Exit.OK


@keys_command.command("list")
@command
def list_keys(session: Session) -> Exit:
    """List the keys, without their text."""
    keys = session.client.keys()
    if session.output.as_json:
        for key in keys:
            session.output.record(key)
        return Exit.OK
    session.output.table(
        ("id", "name", "prefix", "scopes", "created", "last used", "expires", "revoked"),
        (
            (
                str(key.id),
                key.client_name,
                key.prefix,
                " ".join(key.scopes),
                moment(key.created_at),
                moment(key.last_used_at),
                moment(key.expires_at),
                moment(key.revoked_at),
            )
            for key in keys
        ),
    )
    return Exit.OK


@keys_command.command("revoke")
@click.argument("key_id", type=click.UUID, metavar="ID")
@command
def revoke(session: Session, *, key_id: UUID) -> Exit:
    """End a key."""
    session.client.revoke_key(key_id)
    session.output.record({"id": key_id, "revoked": True})
    session.output.line(f"✓ {key_id}  revoked")
    return Exit.OK
