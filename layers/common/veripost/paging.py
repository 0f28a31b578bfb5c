"""Cursors: where the next page of a list begins, as a text that clients hand back unchanged."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

from veripost.errors import InvalidFields


def make_cursor(*parts: str) -> str:
    """Return `parts` as one text that is safe in a URL."""
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")


def read_cursor(cursor: str, *parsers: Callable[[str], Any]) -> tuple[Any, ...]:
    """Return the parts of `cursor`, each read by its parser.

    Raises
    ------
    InvalidFields
        It is none that `make_cursor` made for such parts, or a parser raised ValueError.
    """
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        parts = json.loads(base64.b64decode(padded.encode("ascii"), altchars=b"-_", validate=True))
        return tuple(parse(part) for parse, part in zip(parsers, parts, strict=True))
    except (ValueError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise InvalidFields(
            "That page does not exist: use next_cursor exactly as an earlier page gave it.",
            detail="cursor is not valid",
        ) from error


def a_count(text: str) -> int:
    """Read a whole number from 0 to 999,999,999."""
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ValueError("not a count")
    return int(text)


def a_number(text: str) -> int:
    """Read a whole number that a 64-bit column can hold."""
    if len(text) > 20 or not -(2**63) <= int(text) < 2**63:
        raise ValueError("not a number of one of our rows")
    return int(text)


def a_text(text: str) -> str:
    """Read a text that Postgres takes: no NUL, no lone surrogate."""
    text.encode()
    if "\0" in text:
        raise ValueError("holds a zero byte")
    return text
