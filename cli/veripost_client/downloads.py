"""Downloads that survive a dropped connection: into a part beside the target, verified, then renamed."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import urllib3
from urllib3.exceptions import HTTPError

from veripost_client.answers import Saved
from veripost_client.errors import ClientError, Mismatch, NotFound, TargetExists, Unavailable
from veripost_client.form import told_by_store
from veripost_client.hashing import Facts, facts_of
from veripost_client.transport import CHUNK_BYTES, Transport

PART_PREFIX: Final = ".veripost-"
_MOST_ERROR_BYTES: Final = 4096
Progress = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a download should be: size in bytes and SHA-256 in hex, as far as they are known."""

    size: int | None
    sha256: str | None


def download(
    transport: Transport,
    locate: Callable[[], str],
    target: Path,
    wanted: Wanted,
    *,
    force: bool = False,
    on_progress: Progress = lambda _done: None,
    check: Callable[[BinaryIO], object] | None = None,
) -> Saved:
    """Bring what `locate` gives a URL of to `target`; the target appears whole and verified, or not at all.

    `locate` is asked again for each attempt, since such URLs live for minutes only. A part that an earlier
    attempt left, even of another process, is gone on with. Where nothing came for some attempts in a row it
    is given up; as long as bytes come it goes on. `check` judges what has no hash, and raises `Mismatch`.

    Raises
    ------
    Mismatch
        What came is not what the record names; nothing of it is left.
    TargetExists
        The target holds something else, and `force` is false.
    ClientError, OSError
        It could not be brought; a part is left to go on with.
    """
    present = _present(target, wanted)
    if present is not None:
        return Saved(target, present.size, present.sha256, fresh=False)
    _refuse_to_overwrite(target, force=force)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = _part_of(target, wanted)
    try:
        with _open_part(part) as file:
            got = _Part(file, wanted, on_progress)
            _fill(transport, locate, got)
            found = got.verified()
            if check is not None:
                check(file)
            file.flush()
            os.fsync(file.fileno())
    except BaseException as error:
        # Without a hash nobody could tell what this is a part of.
        if wanted.sha256 is None or isinstance(error, Mismatch):
            part.unlink(missing_ok=True)
        raise
    _refuse_to_overwrite(target, force=force)
    part.replace(target)
    verified = wanted.sha256 is not None or check is not None
    return Saved(target, found.size, found.sha256, fresh=True, verified=verified)


class _Part:
    """The bytes that are here so far, and their hash."""

    def __init__(self, file: BinaryIO, wanted: Wanted, on_progress: Progress) -> None:
        self._file = file
        self._wanted = wanted
        self._on_progress = on_progress
        self._digest = hashlib.sha256()
        self.size = 0
        while chunk := file.read(CHUNK_BYTES):
            self._digest.update(chunk)
            self.size += len(chunk)
        on_progress(self.size)

    @property
    def complete(self) -> bool:
        """Tell whether as many bytes are here as there should be."""
        return self._wanted.size is not None and self.size >= self._wanted.size

    def restart(self) -> None:
        """Forget every byte."""
        self._file.seek(0)
        self._file.truncate()
        self._digest, self.size = hashlib.sha256(), 0
        self._on_progress(0)

    def add(self, chunk: bytes) -> None:
        """Append bytes."""
        self._file.write(chunk)
        self._digest.update(chunk)
        self.size += len(chunk)
        if self._wanted.size is not None and self.size > self._wanted.size:
            raise self._mismatch()
        self._on_progress(self.size)

    def verified(self) -> Facts:
        """Return what is here if it is what is wanted. Raises `Mismatch`."""
        if self._wanted.size not in (None, self.size):
            raise self._mismatch()
        if self._wanted.sha256 not in (None, self._digest.hexdigest()):
            raise self._mismatch()
        return Facts(self.size, self._digest.hexdigest())

    def _mismatch(self) -> Mismatch:
        return Mismatch(
            "What was downloaded is not what the record names, so it was thrown away.",
            detail=f"SHA-256 {self._digest.hexdigest()} ({self.size} bytes), "
            f"not {self._wanted.sha256} ({self._wanted.size} bytes)",
        )


def _fill(transport: Transport, locate: Callable[[], str], part: _Part) -> None:
    failures = 0
    while not part.complete:
        before = part.size
        url = locate()
        try:
            with transport.stream(url, headers={"Range": f"bytes={before}-"} if before else {}) as response:
                error = _receive(response, part)
            if error is None:
                return
        except HTTPError as broken:
            error = transport.unreachable(url, broken)
        if not isinstance(error, Unavailable):
            raise error
        failures = 1 if part.size > before else failures + 1
        if failures >= transport.retry.attempts:
            raise error
        transport.sleep(transport.retry.pause(failures))


def _receive(response: urllib3.BaseHTTPResponse, part: _Part) -> ClientError | None:
    """Append an answer's body to `part`; return what is wrong with it, None when it came to its end."""
    if response.status == 206 and not _goes_on_at(response.headers.get("Content-Range"), part.size):
        part.restart()
        return Unavailable("The store sent another part of the file than it was asked for.")
    if response.status == 416:  # there is no more than we have: what we have is not a part of it
        part.restart()
        return Unavailable("The part that was here belonged to another file.")
    if response.status not in (200, 206):
        code, said = told_by_store(response.read(_MOST_ERROR_BYTES))
        if response.status == 404:
            return NotFound("The file is gone from the store.", code="file_missing", detail=f"{code}: {said}")
        return Unavailable(
            f"The store answered {response.status}.", code="store_error", detail=f"{code}: {said}"
        )
    if response.status == 200 and part.size:
        part.restart()  # this store sends the whole file only
    while chunk := response.read(CHUNK_BYTES):
        part.add(chunk)
    return None


def _goes_on_at(content_range: str | None, offset: int) -> bool:
    found = re.fullmatch(r"bytes (\d+)-\d+/(?:\d+|\*)", content_range or "")
    return found is not None and int(found.group(1)) == offset


def _present(target: Path, wanted: Wanted) -> Facts | None:
    if wanted.sha256 is None or not target.is_file() or target.is_symlink():
        return None
    if wanted.size not in (None, target.stat().st_size):
        return None
    found = facts_of(target)
    return found if found.sha256 == wanted.sha256 else None


def _refuse_to_overwrite(target: Path, *, force: bool) -> None:
    if target.is_dir() and not target.is_symlink():
        raise TargetExists(f"There is a folder where {target.name} would go.", detail=str(target))
    if not force and os.path.lexists(target):
        raise TargetExists(
            f"{target.name} is here already and holds something else; it was left alone.", detail=str(target)
        )


def _part_of(target: Path, wanted: Wanted) -> Path:
    content = wanted.sha256[:16] if wanted.sha256 else f"unknown-{os.urandom(6).hex()}"
    name = hashlib.sha256(target.name.encode()).hexdigest()[:8]
    return target.with_name(f"{PART_PREFIX}{name}-{content}.part")


def _open_part(part: Path) -> BinaryIO:
    # Never through a link that somebody put there: the part is ours alone.
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(part, flags, 0o666), "r+b")
