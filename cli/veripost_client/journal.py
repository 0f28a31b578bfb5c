"""Uploads that were announced and not finished: whoever comes again goes on with the same package."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import ValidationError

from veripost.schemas import AcceptedWithForm
from veripost_client.hashing import Facts
from veripost_client.private import write_private

_MARGIN = timedelta(minutes=1)  # a form that is about to expire is not worth starting with


class Journal:
    """One small file for each upload; readable by its owner only, since a form is a permission to write."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(self, url: str, platform: str, facts: Facts) -> AcceptedWithForm | None:
        """Return what the server promised for these bytes earlier, if its form is still valid."""
        path = self._path(url, platform, facts)
        try:
            promised = AcceptedWithForm.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            return None
        if promised.upload.expires_at - _MARGIN < datetime.now(UTC):
            self.forget(url, platform, facts)
            return None
        return promised

    def keep(self, url: str, platform: str, facts: Facts, promised: AcceptedWithForm) -> None:
        """Remember an announced upload. Raises `OSError`."""
        write_private(self._path(url, platform, facts), promised.model_dump_json().encode())

    def forget(self, url: str, platform: str, facts: Facts) -> None:
        """Drop what was remembered; it is no fault if there is nothing."""
        self._path(url, platform, facts).unlink(missing_ok=True)

    def _path(self, url: str, platform: str, facts: Facts) -> Path:
        identity = "\n".join((url, platform, str(facts.size), facts.sha256))
        return self._folder / f"{hashlib.sha256(identity.encode()).hexdigest()}.json"
