"""The packages that faults are played on."""

from __future__ import annotations

import hashlib
import io
import zipfile
from functools import cache

from localcloud import samples

FILES = samples.post_processor("FAULT", sections=12)


@cache
def good() -> bytes:
    """Return an archive of `FILES`."""
    return samples.zip_of(FILES)


@cache
def large_files() -> dict[str, bytes]:
    """Return some files, one of which travels in parts."""
    noise = b"".join(hashlib.sha256(str(number).encode()).digest() for number in range(13 << 15))
    return FILES | {"BIG.CTL": noise}


@cache
def damaged() -> bytes:
    """Return an archive whose last member has a wrong checksum, which shows when the others are stored."""
    buffer = io.BytesIO(samples.zip_of(FILES))
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_STORED) as archive:
        archive.writestr("LAST.CTL", bytes(1000))
    data = bytearray(buffer.getvalue())
    data[data.index(b"LAST.CTL") + 500] ^= 1
    return bytes(data)
