"""Where VeriPost is and with which key: from the environment, else from what `veripost login` stored."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import click
import platformdirs

from veripost_client.private import write_private

DEFAULT_KEY_HEADER = "X-API-Key"


@dataclass(frozen=True, slots=True)
class Login:
    """An address of VeriPost, and the key for it."""

    url: str
    key: str | None = field(default=None, repr=False)
    key_header: str = DEFAULT_KEY_HEADER


def stored_at() -> Path:
    """Return the file that holds the login."""
    return platformdirs.user_config_path("veripost", appauthor=False) / "login.json"


def journal_at() -> Path:
    """Return the folder that remembers interrupted uploads."""
    return platformdirs.user_state_path("veripost", appauthor=False) / "uploads"


def store(login: Login) -> Path:
    """Write the login down, readable by its owner only. Raises `OSError`."""
    write_private(stored_at(), json.dumps(asdict(login)).encode())
    return stored_at()


def load() -> Login | None:
    """Return what is stored, if anything; what is damaged counts as nothing."""
    try:
        document = json.loads(stored_at().read_bytes())
        return Login(str(document["url"]), document["key"], str(document["key_header"]))
    except (OSError, ValueError, LookupError, TypeError):
        return None


def find(environ: Mapping[str, str], url: str | None = None) -> Login:
    """Return the login to use: `url` (of the command line) beats the environment, which beats the stored one.

    A stored key goes to the address that it was stored with, and to no other.

    Raises
    ------
    click.UsageError
        Nobody said where VeriPost is.
    """
    stored = load()
    address = url or environ.get("VERIPOST_URL") or (stored.url if stored else None)
    if not address:
        raise click.UsageError("Where is VeriPost? Run `veripost login`, or set VERIPOST_URL.")
    address = address.rstrip("/")
    same = stored is not None and stored.url == address
    key = environ.get("VERIPOST_API_KEY") or (stored.key if stored and same else None)
    header = environ.get("VERIPOST_API_KEY_HEADER") or (stored.key_header if stored and same else None)
    return Login(address, check_key(key) if key else None, header or DEFAULT_KEY_HEADER)


def check_key(text: str) -> str:
    """Return a key without what copying adds around it. Raises `click.UsageError` for what can be none."""
    key = text.strip()
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise click.UsageError("That is no API key: a key is one line of letters and digits.")
    return key
