"""Uploads that were announced and not finished: whoever comes again goes on with the same package."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import ValidationError

from veripost.schemas import AcceptedWithForm
from veripost_client.hashing import Facts
from veripost_client.private import write_private

_MARGIN = timedelta(minutes=1)  # a form that is about to expire is not worth starting with


class Entry:
    """What is remembered of one upload."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def find(self) -> AcceptedWithForm | None:
        """Return what the server promised for these bytes earlier, if its form is still valid."""
        try:
            promised = AcceptedWithForm.model_validate_json(self._path.read_bytes())
        except (OSError, ValidationError):
            return None
        if promised.upload.expires_at - _MARGIN < datetime.now(UTC):
            self.forget()
            return None
        return promised

    def keep(self, promised: AcceptedWithForm) -> None:
        """Remember an announced upload. Raises `OSError`."""
        write_private(self._path, promised.model_dump_json().encode())

    def forget(self) -> None:
        """Drop what was remembered, if there is anything: whatever stays expires by itself."""
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


class Journal:
    """One small file for each upload; readable by its owner only, since a form is a permission to write."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._in_use: set[Path] = set()
        self._lock = threading.Lock()

    @contextmanager
    def entry(self, url: str, platform: str, facts: Facts) -> Iterator[Entry | None]:
        """Give the entry of an upload of these bytes.

        None while another thread uploads the same bytes: what is under way was not interrupted.
        """
        identity = "\n".join((url, platform, str(facts.size), facts.sha256))
        path = self._folder / f"{hashlib.sha256(identity.encode()).hexdigest()}.json"
        with self._lock:
            is_free = path not in self._in_use
            if is_free:
                self._in_use.add(path)
        if not is_free:
            yield None
            return
        try:
            yield Entry(path)
        finally:
            with self._lock:
                self._in_use.discard(path)
