"""Packages to try VeriPost with: written by us in the grammar of UPG posts, at the size of real ones.

Everything is made from the arguments alone, so the same call gives the same bytes on every machine.
"""

from __future__ import annotations

import hashlib
import io
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_CRLF = "\r\n"
_OPERATIONS = (
    "Rough Mill", "Contour Mill", "Face Mill", "Thread Mill", "Drill", "Peck Drill", "Bore", "Back Bore",
    "Ream", "Tap", "Rigid Tap", "Countersink", "Center Drill", "Z Level", "Flat Area", "Pattern Project",
    "Pencil Mill", "Curve Project", "Constant Stepover", "Multiaxis Mill", "Entry Drill", "Engrave",
    "Chamfer Mill", "Program Stop", "Probe",
)  # fmt: skip
_DISABLED_LINES = 45  # that many lines of code stand behind a star in a real source, more or less
_ZIP_TIME = (2026, 1, 2, 3, 4, 6)


SIZES = {"small": (900, 80, 24), "medium": (3_960, 320, 24), "large": (6_000, 750, 25)}
"""Lines, sections and operations of a `.SRC`: the smallest real ones, those between, the largest."""


@dataclass(frozen=True, slots=True)
class SampleSection:
    """A section as it was written; lines count from 1, and both ends belong to it."""

    name: str
    is_calculation: bool
    parameters: tuple[str, ...]
    first_line: int
    last_line: int
    template_lines: int
    calculation_lines: int
    calls: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SampleSource:
    """A `.SRC` and what its writer knows of it."""

    data: bytes
    lines: int
    sections: tuple[SampleSection, ...]
    operations: tuple[str, ...]
    attributes: tuple[str, ...]
    machine: str
    controller: str
    system: str
    library: str
    disabled_lines: int


def post_processor(stem: str = "EXAMPLE_MILL", *, sections: int = 320) -> dict[str, bytes]:
    """Return the seven files of one post processor by file name; `sections` scales the `.SRC`.

    320 sections make a `.SRC` of some 4,000 lines and 100 KB, which is what a real mill post has.
    """
    return {
        f"{stem}.SRC": source(stem, sections=sections).data,
        f"{stem}.LIB": _library(stem, max(sections // 4, 1)).encode("cp1252"),
        f"{stem}.CTL": _compiled(stem, sections * 400),
        f"{stem}.KIN": _kinematics().encode("cp1252"),
        f"{stem}.ATR": _attributes().encode("cp1252"),
        f"{stem}.PINF": _information(stem).encode("cp1252"),
        f"{stem}.LNG": _language(sections).encode("cp1252"),
    }


def zip_of(files: Mapping[str, bytes], *, folder: str = "") -> bytes:
    """Return a ZIP of `files`, each below `folder` (such as `MYPOST/`)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(f"{folder}{name}", _ZIP_TIME), data, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def source(
    stem: str = "EXAMPLE_MILL", *, sections: int = 320, lines: int | None = None, operations: int = 24
) -> SampleSource:
    """Return a `.SRC` of `sections` sections (every fifth a calculation) and what is in it.

    `lines` is its length; it must leave each section five lines below some 130 lines of header, and by
    default leaves twelve.
    """
    machine, controller, library = "Example Mill 3X", "Example Control 18i", f"..\\LIB\\{stem}.LIB"
    attributes = {
        "MACHINE NAME": ("CHARACTER", machine),
        "CONTROLLER TYPE": ("CHARACTER", controller),
        "PROGRAM NUMBER": ("INTEGER", "1001"),
    }
    written = [
        f"*{stem.replace('_', ' ')} POST",
        "*Written for VeriPost's own tests: not a real post processor",
        ":SYSTEM=MILL",
        f":LIBRARY={library}",
        ":DEFINE MAXTOOL=24",
        ":DEFINE MAXOFFSET=99",
    ]
    for name, (kind, default) in attributes.items():
        written += _attribute(name, kind, default)
    for operation in _OPERATIONS[:operations]:
        written += [
            f":OPERID={operation}",
            f":OPERLIST={operation} 1",
            f":OPERLIST={operation} 2",
            ":OPEREND",
        ]

    room = (lines or len(written) + 12 * sections) - len(written)
    disable_every = max((sections - sections // 5) // _DISABLED_LINES, 1)
    known, templates, disabled = list[SampleSection](), 0, 0
    for number in range(sections):
        first = len(written) + 1
        body = room * (number + 1) // sections - room * number // sections - 1
        if number % 5 == 4:
            name, parameters = _calculation_name(number), ("RVAL", "MACH", "REGISTER")
            calls = (_calculation_name(number + 5 if number + 5 < sections else 4),)
            written += [f":SECTION={name}({','.join(parameters)})", *_calculation(body, calls[0])]
            known.append(SampleSection(name, True, parameters, first, first + body, 0, body, calls))
            continue
        name, star = _template_name(number), 0
        if templates % disable_every == 0 and disabled < _DISABLED_LINES:
            star = 1
        written += [f":SECTION={name}", *_template(number, body - star), *_disabled(number)[:star]]
        known.append(SampleSection(name, False, (), first, first + body, body - star, 0, ()))
        templates, disabled = templates + 1, disabled + star
    return SampleSource(
        data="".join(line + _CRLF for line in written).encode("cp1252"),
        lines=len(written),
        sections=tuple(known),
        operations=_OPERATIONS[:operations],
        attributes=tuple(attributes),
        machine=machine,
        controller=controller,
        system="MILL",
        library=library,
        disabled_lines=disabled,
    )


def _template_name(number: int) -> str:
    if number == 0:
        return "START_OF_TAPE"
    return (f"MOVE_{number:03d}", f"5AXIS_MOVE_{number:03d}", f"tool_change_{number:03d}")[number % 3]


def _template(number: int, count: int) -> list[str]:
    lines = [
        f":T:<N><G:0{number % 4}><X!><Y><Z><EOL>",
        f':T:<N>IF <%:FEED> THEN F<"#4.{number % 4}N":FEEDRATE> ENDIF<EOL>',
        ":T:<N><M:08><EOL>",
        f":T:<N><G!:{50 + number % 40}><H:{number % 24 + 1:02d}><EOL>",
        ":T:<N><X!><Y!><EOL>",
        ":T:<N><Z!><EOL>",
        ":T:<BLANK><EOL>",
    ]
    if number == 0:
        lines[:2] = [":T:%<EOL>", ':T:O<"#4.0N":PROGRAM_NUMBER><EOL>']
    return [lines[index % len(lines)] for index in range(count)]


def _disabled(number: int) -> list[str]:
    return [f"*:SECTION=DISABLED_{number:03d}" if number % 2 else "*:T:<N><G:91><EOL>"]


def _calculation_name(number: int) -> str:
    return f"CALC_RADIUS_{number:03d}"


def _calculation(count: int, target: str) -> list[str]:
    choice = [":C: IF SECTIONEXIST(START_OF_TAPE) THEN", ":C: GOTO1", ":C: ENDIF"]
    steps = [":C: SETON(<G>)", ":C: MSG = {NO CALL(TEXT) IS MADE}", ":C: RVAL = RVAL * 2"]
    lines = [f":C: CALL({target})"]
    while len(lines) + len(choice) < count:
        lines += choice
    lines += steps[: count - len(lines) - 1]
    return [*lines, ":C1: RETURN"]


def _attribute(name: str, kind: str, default: str) -> list[str]:
    return [
        f":ATTRNAME={name}",
        ":ATTRTYPE=POST",
        f":ATTRVTYPE={kind}",
        f":ATTRDEFAULT={default}",
        ":CANNOT_BE_SIGNED",
        ":ATTREND",
    ]


def _library(stem: str, sections: int) -> str:
    lines = [f"*Library of {stem}"]
    for number in range(sections):
        lines += [f":SECTION=LIB_{number:03d}", f":T:<N><G:{number % 90:02d}><EOL>", ":T:<EOL>", ""]
    return _CRLF.join(lines)


def _compiled(stem: str, size: int) -> bytes:
    """Bytes shaped like a compiled `.CTL`: NULs first, names at 0x80, then binary that is 40 % NUL."""
    blob = bytearray(0x80)
    blob += b"".join(name.encode().ljust(32, b"\0") for name in ("MACHINE NAME", "CONTROLLER TYPE", stem))
    counter = 0
    while len(blob) < size:
        noise = hashlib.sha256(f"{stem}:{counter}".encode()).digest()
        blob += noise[:19] + bytes(13)
        counter += 1
    return bytes(blob)


def _kinematics() -> str:
    values = ("0", "0", "-154.2491", "0.0", "12.5", "360.0", *(f"{number}.000" for number in range(16)))
    return "".join(
        f"{value}* value {number}{_CRLF}" if number == 3 else f"{value} * value {number}{_CRLF}"
        for number, value in enumerate(values, start=1)
    )


def _attributes() -> str:
    lines = [":IDHIGH=1003"]
    for number, name in enumerate(("COOLANT", "WORK OFFSET", "SPINDLE RANGE"), start=1001):
        lines += [
            f":ATTRNAME={name}", f":ATTRID={number}", ":ATTRTYPE=SELECT", ":ATTRVTYPE=INTEGER", ":ATTREND",
        ]  # fmt: skip
    return _CRLF.join([*lines, ""])


def _information(stem: str) -> str:
    return _CRLF.join(["/////", f"PostName = {stem}", "PostExtension = .nc", "Units = Metric", ""])


def _language(lines: int) -> str:
    return "".join(
        f"{f'Message number {n} of the post':<70}:{n % 10000:04d}:"[:76] + _CRLF for n in range(lines)
    )


if __name__ == "__main__":
    package = Path(f"{sys.argv[1]}.zip")
    package.write_bytes(zip_of(post_processor(sys.argv[1]), folder=f"{sys.argv[1]}/"))
    print(f"wrote {package}: {package.stat().st_size:,} bytes")
