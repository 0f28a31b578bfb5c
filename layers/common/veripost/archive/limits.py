"""How much an archive may ask of us: every bound the gate enforces, in one frozen value."""

from __future__ import annotations

from dataclasses import dataclass

KiB = 1024
MiB = 1024 * KiB
GiB = 1024 * MiB


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on an archive; the defaults are argued in `docs/archive-rules.md`.

    Sizes are in bytes. `ratio` is plain size over compressed size and counts only for members larger
    than `ratio_floor_bytes`. `problems` caps how many errors, and how many notices, are listed one by
    one; what is beyond is counted.
    """

    archive_bytes: int = 2 * GiB
    entries: int = 10_000
    directory_bytes: int = 16 * MiB
    member_bytes: int = 256 * MiB
    total_bytes: int = 2 * GiB
    ratio: int = 200
    ratio_floor_bytes: int = 1 * MiB
    name_bytes: int = 1024
    segment_bytes: int = 255
    depth: int = 32
    comment_bytes: int = 1024
    problems: int = 100
