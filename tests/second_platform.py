"""A platform that has nothing to do with post processors: whatever takes it in has no CAMWorks in it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from veripost.errors import Problem, ProblemCode, Severity
from veripost.platforms.facts import Attribute, FileFacts, PackageFacts, Reader, Section
from veripost.platforms.registry import Platform


def read_note(chunks: Iterable[bytes], room: int) -> FileFacts:
    """Read a note: `# name` begins a chapter, `key: value` states something."""
    lines = b"".join(chunks).decode("utf-8", "replace").splitlines()
    begins = [number for number, line in enumerate(lines, start=1) if line.startswith("# ")]
    ends = [*(number - 1 for number in begins[1:]), len(lines)][: len(begins)]
    sections = [
        Section(
            name=lines[first - 1][2:],
            kind="chapter",
            parameters=(),
            first_line=first,
            last_line=last,
            template_lines=0,
            calculation_lines=0,
            calls=(),
            digest=hashlib.sha256("\n".join(lines[first - 1 : last]).encode()).hexdigest()[:32],
        )
        for first, last in zip(begins, ends, strict=True)
    ]
    attributes = [
        Attribute("field", line.partition(": ")[0], line.partition(": ")[2], (), number, number)
        for number, line in enumerate(lines, start=1)
        if ": " in line
    ]
    return FileFacts(
        tuple(sections[:room]), tuple(attributes), len(sections), len(sections) + len(attributes)
    )


def conclude(paths: Sequence[str], files: Mapping[str, FileFacts]) -> PackageFacts:
    """Count the chapters; a note without any is odd."""
    empty = [path for path in paths if path in files and not files[path].sections]
    return PackageFacts(
        machine_type="a desk",
        section_count=sum(facts.section_count for facts in files.values()),
        notices=tuple(
            Problem(ProblemCode.SOURCE_WARNINGS, Severity.NOTICE, path, f"“{path}” has no chapter.")
            for path in empty
        ),
    )


NOTES = Platform(
    key="notes",
    label="folder of notes",
    extensions=frozenset({".NOTE", ".PNG"}),
    required=frozenset({".NOTE"}),
    name_extension=".NOTE",
    skipped=frozenset({"index.db"}),
    load_reader=lambda: Reader(parsers={".NOTE": read_note}, conclude=conclude),
)
