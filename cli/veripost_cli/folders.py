"""Makes a package of a folder: the same files give the same bytes, so a repeated upload is recognised."""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from veripost.platforms.rules import is_junk
from veripost_client.transport import CHUNK_BYTES

_TIME: Final = (1980, 1, 1, 0, 0, 0)  # the earliest that a ZIP can name: times of files are no content


@contextmanager
def zipped(folder: Path, *, on_skipped: Callable[[str], object]) -> Iterator[Path]:
    """Give a temporary ZIP of the files below `folder`, and delete it afterwards.

    Litter of operating systems, links and what is no regular file stay out; `on_skipped` hears of the last
    two.

    Raises
    ------
    OSError
        A file or folder cannot be read; also for a name that is not text.
    """
    handle, name = tempfile.mkstemp(prefix="veripost-", suffix=".zip")
    target = Path(name)
    try:
        with os.fdopen(handle, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for path, member in sorted(_files(folder, on_skipped), key=lambda pair: pair[1]):
                _add(archive, path, member)
        yield target
    finally:
        target.unlink(missing_ok=True)


def _files(folder: Path, on_skipped: Callable[[str], object]) -> Iterator[tuple[Path, str]]:
    def fail(error: OSError) -> None:
        raise error

    for parent, folders, names in os.walk(folder, onerror=fail):
        for name in [*names, *(name for name in folders if Path(parent, name).is_symlink())]:
            path = Path(parent, name)
            member = path.relative_to(folder).as_posix()
            if is_junk(member):
                continue
            if path.is_symlink() or not path.is_file():
                on_skipped(f"{path} was left out: it is a link or no regular file.")
                continue
            yield path, member


def _add(archive: zipfile.ZipFile, path: Path, member: str) -> None:
    try:
        entry = zipfile.ZipInfo(member, _TIME)
        member.encode("utf-8")
    except UnicodeEncodeError as error:
        raise OSError(None, "this name is not text, so no ZIP can hold it", str(path)) from error
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o100644 << 16
    entry.file_size = path.stat().st_size  # decides whether ZIP64 is needed
    with path.open("rb") as source, archive.open(entry, "w") as target:
        while chunk := source.read(CHUNK_BYTES):
            target.write(chunk)
