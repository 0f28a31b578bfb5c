"""Arguments and options that several commands read the same way."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any, Final

import click

from veripost.schemas import FileView

_AGO: Final = re.compile(r"(\d{1,5})([mhdw])")
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Moment(click.ParamType[datetime]):
    """A time: `2026-01-31`, `2026-01-31T14:00+02:00` (without a zone: local), or `7d` for a week ago."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the time, with its zone."""
        if isinstance(value, datetime):
            return value
        ago = _AGO.fullmatch(value)
        if ago:
            return datetime.now(UTC) - timedelta(**{_UNITS[ago.group(2)]: int(ago.group(1))})
        try:
            found = datetime.fromisoformat(value)
        except ValueError:
            self.fail(
                f"“{value}” is no time: write 2026-01-31, 2026-01-31T14:00 or 7d (m, h, d, w).", param, ctx
            )
        return found.astimezone() if found.tzinfo is None else found


def matching(files: Sequence[FileView], patterns: Sequence[str]) -> tuple[list[FileView], list[str]]:
    """Return the files that names or patterns (`*.SRC`) stand for, in any case, and those that match none."""
    chosen: list[FileView] = []
    unknown = []
    for pattern in patterns:
        found = [file for file in files if fnmatchcase(file.filename.casefold(), pattern.casefold())]
        found = found or [file for file in files if file.filename == pattern]  # a name such as `a[1].SRC`
        if not found:
            unknown.append(pattern)
        chosen += [file for file in found if file not in chosen]
    return chosen, unknown
