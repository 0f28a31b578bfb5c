"""Tells what a file that is no ZIP archive seems to be, so that the answer can say what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

HEAD_BYTES: Final = 512
_TAR_MAGIC_AT: Final = 257


@dataclass(frozen=True, slots=True)
class Likeness:
    """What a file looks like: a sentence for people, and what to do about it."""

    message: str
    hint: str


def _archive(name: str) -> Likeness:
    return Likeness(
        f"This file is a {name} archive, not a ZIP.",
        "Unpack it and make a ZIP of the files instead; renaming it to .zip is not enough.",
    )


_WEB_PAGE: Final = Likeness(
    "This file is a web page, not a ZIP.",
    "The download was probably answered with an error or a login page: open the file in a browser to see, "
    "and download the ZIP again.",
)
_ANSWER: Final = Likeness(
    "This file is the text of an answer from a server (XML or JSON), not a ZIP.",
    "The download was probably answered with an error: open the file in an editor to see, and download the "
    "ZIP again.",
)
_TEXT: Final = Likeness(
    "This file is plain text, not a ZIP.",
    "If it is one of the package's files, zip the whole package and send that.",
)
_ZEROS: Final = Likeness(
    "This file starts with nothing but zeros.",
    "The copy or download was probably interrupted before the content arrived: copy it again.",
)
_EMPTY: Final = Likeness("The file is empty.", "The export or the upload probably failed: send it again.")

_MAGIC: Final = (
    (b"Rar!\x1a\x07", _archive("RAR")),
    (b"7z\xbc\xaf\x27\x1c", _archive("7-Zip")),
    (b"\x1f\x8b", _archive("gzip")),
    (b"BZh", _archive("bzip2")),
    (b"\xfd7zXZ\x00", _archive("xz")),
    (b"\x28\xb5\x2f\xfd", _archive("Zstandard")),
    (b"MSCF", _archive("Cabinet")),
    (b"MZ", Likeness("This file is a Windows program, not a ZIP.", "Make an ordinary ZIP instead.")),
    (
        b"%PDF-",
        Likeness("This file is a PDF document, not a ZIP.", "Zip the package's files and send that."),
    ),
)
# After white space, a byte order mark and upper case have been taken away.
_TEXT_STARTS: Final = (
    *((start, _WEB_PAGE) for start in (b"<!doctype html", b"<html", b"<head", b"<body")),
    *((start, _ANSWER) for start in (b"<?xml", b"{", b"[")),
)
_TEXT_BYTES: Final = bytes(range(0x20, 0x100)) + b"\t\n\r\f\x1b"


def likeness(head: bytes) -> Likeness | None:
    """Tell what a file that starts with `head` (its first 512 bytes) seems to be; None when unknown."""
    if head[_TAR_MAGIC_AT:].startswith(b"ustar"):
        return _archive("tar")
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    known = [seems for magic, seems in _MAGIC if head.startswith(magic)]
    known += [seems for start, seems in _TEXT_STARTS if text.startswith(start)]
    if known:
        return known[0]
    if not head.strip(b"\0"):
        return _ZEROS if head else _EMPTY
    return None if head.translate(None, _TEXT_BYTES) else _TEXT
