"""Text files of post processors as lines of bytes: streamed, and as tolerant as the field is careless."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final, NamedTuple

from veripost.errors import printable

LONGEST_LINE: Final = 64 * 1024
"""Bytes of a line that are read; what a longer line holds beyond them is left out."""

_BLANK: Final = b" \t\v\f\x1a"  # with the Ctrl-Z that DOS editors end a file with
# Half of the longest line: a line that lies within one piece is never too long, so that only the first
# line of a batch, the one that began in earlier pieces, has to be measured.
_PIECE: Final = LONGEST_LINE // 2


class Batch(NamedTuple):
    """Lines without their ends; `cut`: the first was longer than LONGEST_LINE, and is cut to it."""

    lines: list[bytes]
    cut: bool


def batches(chunks: Iterable[bytes]) -> Iterator[Batch]:
    """Yield the lines of `chunks` in batches; how the bytes are cut into chunks makes no difference.

    CRLF, LF and CR end a line, mixed as they come. A byte order mark is dropped, and text that UTF-16's mark
    announces becomes cp1252. Holds no more than one chunk and some 100 KiB. Raises nothing of its own.
    """
    held: list[bytes] = []  # the beginning of a line whose end is still to come
    size = 0
    for piece in _whole_ends(_pieces(_unmarked(_pieces(chunks)))):
        end = max(piece.rfind(b"\n"), piece.rfind(b"\r")) + 1
        if end:
            lines = b"".join([*held, piece[:end]]).splitlines()
            yield _batch(lines)
            held, size = [], 0
        if size <= LONGEST_LINE and end < len(piece):
            held.append(piece[end:])
            size += len(piece) - end
    if held:
        yield _batch([b"".join(held)])


def bare(line: bytes) -> bytes:
    """Return `line` without the blanks around it."""
    return line.strip(_BLANK)


def text(raw: bytes) -> str:
    """Return what `raw` says in cp1252: without outer blanks, unprintable characters spelled out.

    UPG, “encoding”: ASCII in practice, cp1252 with replacement where it is not.
    """
    # Names are ASCII but for a few, and Python decodes that ten times as fast.
    decoded = raw.strip(_BLANK).decode("ascii" if raw.isascii() else "cp1252", "replace")
    return decoded if decoded.isprintable() else printable(decoded)


def shown(raw: bytes, encoding: str) -> str:
    """Return a line as people read it: with blanks and tabs, other unprintable characters spelled out."""
    decoded = raw.decode(encoding, "replace")
    return decoded if decoded.isprintable() else "\t".join(map(printable, decoded.split("\t")))


def _batch(lines: list[bytes]) -> Batch:
    cut = len(lines[0]) > LONGEST_LINE
    if cut:
        lines[0] = lines[0][:LONGEST_LINE]
    return Batch(lines, cut)


def _pieces(chunks: Iterable[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        for start in range(0, len(chunk), _PIECE):
            yield chunk[start : start + _PIECE]


def _unmarked(pieces: Iterable[bytes]) -> Iterator[bytes]:
    rest = iter(pieces)
    start = b""
    for piece in rest:
        start += piece
        if len(start) >= len(codecs.BOM_UTF8):
            break
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        decoder = codecs.getincrementaldecoder("utf-16")("replace")
        for piece in chain([start], rest):
            yield decoder.decode(piece).encode("cp1252", "replace")
        return
    yield start.removeprefix(codecs.BOM_UTF8)
    yield from rest


def _whole_ends(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Move a CR at the end of a piece to the next one: it may be the first half of a CRLF."""
    carried = b""
    for piece in pieces:
        joined = carried + piece if carried else piece
        carried = b"\r" if joined.endswith(b"\r") else b""
        yield joined.removesuffix(b"\r")
    yield carried
