"""Where a download may be written: directly in its folder, and nowhere else, whatever the server calls it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from veripost_client.errors import UnsafeName

# https://learn.microsoft.com/windows/win32/fileio/naming-a-file: devices, with any extension, in any folder
_DEVICES: Final = frozenset(
    {"con", "prn", "aux", "nul", *(f"{kind}{digit}" for kind in ("com", "lpt") for digit in "123456789¹²³")}
)
_WINDOWS_FORBIDS: Final = frozenset(':*?"<>|')
_MOST_BYTES: Final = 255


def target_in(folder: Path, filename: str, *, windows: bool = os.name == "nt") -> Path:
    """Return where `filename` of a package goes; `windows` adds what only that system cannot store.

    Raises
    ------
    UnsafeName
        It could lead out of the folder, name a device, or cannot be a file's name.
    """
    reason = _fault(filename) or (_windows_fault(filename) if windows else None)
    if reason:
        raise UnsafeName(
            "A file of this package has a name that cannot be used here, so it was not written.",
            detail=f"{filename!a}: {reason}",
        )
    return folder / filename


def _fault(name: str) -> str | None:
    if name in ("", ".", ".."):
        return "is no file's name"
    if "/" in name or "\\" in name:
        return "holds a character that separates folders"
    if not name.isprintable():
        return "holds control characters"
    if len(name.encode("utf-8")) > _MOST_BYTES:
        return f"is longer than {_MOST_BYTES} bytes"
    return None


def _windows_fault(name: str) -> str | None:
    if _WINDOWS_FORBIDS & set(name):
        return "holds a character that Windows forbids"
    if name[-1] in ". ":
        return "ends in a dot or a space, which Windows drops"
    if name.partition(".")[0].rstrip().casefold() in _DEVICES:
        return "is a device on Windows"
    return None
