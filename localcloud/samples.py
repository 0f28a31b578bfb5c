"""Packages to try VeriPost with: written by us in the grammar of UPG posts, at the size of real ones.

Everything is made from the arguments alone, so the same call gives the same bytes on every machine.
"""

from __future__ import annotations

import hashlib
import io
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

_CRLF = "\r\n"
_OPERATIONS = (
    "Rough Mill", "Contour Mill", "Face Mill", "Thread Mill", "Drill", "Peck Drill", "Bore", "Ream", "Tap",
    "Countersink", "Z Level", "Flat Area", "Pattern Project", "Pencil Mill", "Multiaxis Mill",
)  # fmt: skip
_ZIP_TIME = (2026, 1, 2, 3, 4, 6)


def post_processor(stem: str = "EXAMPLE_MILL", *, sections: int = 320) -> dict[str, bytes]:
    """Return the seven files of one post processor by file name; `sections` scales the `.SRC`.

    320 sections make a `.SRC` of some 4,000 lines and 120 KB, which is what a real mill post has.
    """
    return {
        f"{stem}.SRC": _source(stem, sections).encode("cp1252"),
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


def _source(stem: str, sections: int) -> str:
    lines = [
        f"*{stem.replace('_', ' ')} POST",
        "*Written for VeriPost's own tests: not a real post processor",
        ":SYSTEM=MILL",
        f":LIBRARY=..\\LIB\\{stem}.LIB",
        ":DEFINE MAXTOOL=24",
        ":DEFINE MAXOFFSET=99",
        *_attribute("MACHINE NAME", "CHARACTER", "Example Mill 3X"),
        *_attribute("CONTROLLER TYPE", "CHARACTER", "Example Control 18i"),
        *_attribute("PROGRAM NUMBER", "INTEGER", "1001"),
    ]
    for operation in _OPERATIONS:
        lines += [f":OPERID={operation}", f":OPERLIST={operation} 1", f":OPERLIST={operation} 2", ":OPEREND"]
    lines += [
        ":SECTION=START_OF_TAPE",
        ":T:%<EOL>",
        ':T:O<"#4.0N":PROGRAM_NUMBER><EOL>',
        ":T:<N><G:90><G:17><G:40><EOL>",
        "*:SECTION=DISABLED_ONE",
        "*:T:<N><G:91><EOL>",
    ]
    for number in range(sections):
        lines += _template(number) if number % 5 else _calculation(number)
    return _CRLF.join([*lines, ""])


def _template(number: int) -> list[str]:
    return [
        f":SECTION=MOVE_{number:03d}",
        f":T:<N><G:0{number % 4}><X!><Y><Z><EOL>",
        f':T:<N>IF <%:FEED> THEN F<"#4.{number % 4}N":FEEDRATE> ENDIF<EOL>',
        ":T:<N><M:08><EOL>",
        "*The old way of this machine, kept for reference",
        f"*:T:<N><G:{number % 90:02d}><X><Y><EOL>",
        f":T:<N><G!:{50 + number % 40}><H:{number % 24 + 1:02d}><EOL>",
        ":T:<N><X!><Y!><EOL>",
        ":T:<N><Z!><EOL>",
        ":T:<BLANK><EOL>",
        "",
    ]


def _calculation(number: int) -> list[str]:
    return [
        f":SECTION=CALC_RADIUS_{number:03d}(RVAL,MACH,REGISTER)",
        f":C: IF RVAL > {number} THEN",
        f":C: CALL(CALC_RADIUS_{(number + 5) // 5 * 5:03d})",
        ":C: GOTO1",
        ":C: ENDIF",
        ":C: IF SECTIONEXIST(START_OF_TAPE) THEN",
        ":C: SETON(<G>)",
        ":C: ENDIF",
        ":C: MSG = {RADIUS TOO LARGE}",
        ":C1: RETURN",
        "",
    ]


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
