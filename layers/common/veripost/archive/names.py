"""What a member may be called: decoding, the rules for one name, and clashes between several."""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Iterator, Sequence
from typing import Final

from veripost.archive.findings import finding
from veripost.archive.limits import Limits
from veripost.archive.records import UTF8_FLAG, RecordError, parse_unicode_path
from veripost.errors import Problem, ProblemCode

# The marks that turn the direction of writing: Unicode's Bidi_Control property.
_BIDI_CONTROLS: Final = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_CONTROL_CATEGORIES: Final = frozenset({"Cc", "Zl", "Zp"})
_DRIVE: Final = re.compile(r"[A-Za-z]:")
# Most names: a few short parts of letters, digits and harmless signs, none starting with a dot. What matches
# has nothing left to check but its length.
_PLAIN_PART: Final = 80
_PLAIN_DEPTH: Final = 8
_PLAIN: Final = re.compile(
    rb"(?:[%(first)b][%(rest)b]{0,%(more)d}/){0,%(folders)d}(?:[%(first)b][%(rest)b]{0,%(more)d})?"
    % {
        b"first": rb"A-Za-z0-9_+=,@()#&'~!%-",
        b"rest": rb"A-Za-z0-9_+=,@()#&'~!% .-",
        b"more": _PLAIN_PART - 1,
        b"folders": _PLAIN_DEPTH - 1,
    }
)


class UnicodePathConflictError(Exception):
    """A member's two names contradict each other."""


def decode_name(raw: bytes, flags: int) -> str:
    """Decode a member's name as APPNOTE 4.4.4 (bit 11) and appendix D say, and as writers do.

    With bit 11 it must be UTF-8 (UnicodeDecodeError). Without, many writers still write UTF-8 (macOS, Go):
    what is valid UTF-8 is taken as such, everything else as the IBM code page 437 of the standard.
    """
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        if flags & UTF8_FLAG:
            raise
        return raw.decode("cp437")


def unicode_path(raw: bytes, flags: int, field: bytes) -> str:
    """Return the name that the Unicode path extra `field` gives a member whose header says `raw`.

    Raises RecordError when the field is invalid (4.6.9) and UnicodePathConflictError when the two names
    contradict each other. They agree when they are equal, or when the header's name is the same one in an
    old code page: the same ASCII in the same places, so that two readers cannot differ in the folders or
    the extension.
    """
    checksum, path = parse_unicode_path(field)
    if checksum != zlib.crc32(raw):
        raise RecordError(f"the Unicode path is for a name of CRC {checksum:08x}, not {zlib.crc32(raw):08x}")
    is_utf8 = bool(flags & UTF8_FLAG)
    try:
        name = raw.decode("utf-8")
        is_utf8 = is_utf8 or not raw.isascii()
    except UnicodeDecodeError:
        name = raw.decode("cp437")
    agrees = path == name or (not is_utf8 and _is_same_in_some_code_page(raw, path))
    if not agrees:
        raise UnicodePathConflictError(f"header {name!r}, Unicode path {path!r}")
    return path


def _is_same_in_some_code_page(raw: bytes, path: str) -> bool:
    if re.sub(rb"[\x80-\xff]+", b"\x80", raw).decode("latin-1") == re.sub(r"[^\x00-\x7f]+", "\x80", path):
        return True
    # A character that the code page lacks is written as one of these two; then bytes and characters pair up.
    return len(raw) == len(path) and all(
        byte == ord(character) if character.isascii() else byte >= 0x80 or byte in b"?_"
        for byte, character in zip(raw, path, strict=True)
    )


def name_problems(raw: bytes, name: str, limits: Limits) -> Sequence[Problem]:
    """Return everything that is wrong with one name, without looking at the others."""
    if (
        0 < len(raw) <= limits.name_bytes
        and _PLAIN.fullmatch(raw)
        and limits.segment_bytes >= _PLAIN_PART
        and limits.depth >= _PLAIN_DEPTH
    ):
        return ()
    return tuple(_name_problems(raw, name, limits))


def _name_problems(raw: bytes, name: str, limits: Limits) -> Iterator[Problem]:
    if not name:
        yield finding(ProblemCode.NAME_EMPTY, "the name has 0 bytes", member="")
        return
    yield from _character_problems(raw, name)
    yield from _path_problems(name)
    length = max(len(raw), len(name.encode()))
    if length > limits.name_bytes:
        yield finding(ProblemCode.NAME_TOO_LONG, f"{length} bytes, at most {limits.name_bytes}", member=name)
    parts = name.removesuffix("/").split("/")
    longest = max(len(part.encode()) for part in parts)
    if longest > limits.segment_bytes:
        yield finding(
            ProblemCode.NAME_PART_TOO_LONG,
            f"a part has {longest} bytes, at most {limits.segment_bytes}",
            member=name,
        )
    if len(parts) > limits.depth:
        yield finding(ProblemCode.NAME_TOO_DEEP, f"{len(parts)} parts, at most {limits.depth}", member=name)


def _character_problems(raw: bytes, name: str) -> Iterator[Problem]:
    # On the raw bytes too: some readers cut a name at NUL before they decode it.
    if b"\0" in raw or "\0" in name:
        yield finding(ProblemCode.NAME_NUL, f"NUL at byte {raw.find(0)} of the name", member=name)
    if name.isascii() and name.isprintable():
        return
    categories = {character: unicodedata.category(character) for character in name}
    for code, found in (
        (
            ProblemCode.NAME_CONTROL,
            [c for c, category in categories.items() if category in _CONTROL_CATEGORIES and c != "\0"],
        ),
        (ProblemCode.NAME_BIDI, [c for c in categories if c in _BIDI_CONTROLS]),
        (ProblemCode.NAME_UNASSIGNED, [c for c, category in categories.items() if category == "Cn"]),
    ):
        if found:
            listed = " ".join(f"U+{ord(character):04X}" for character in found[:8])
            yield finding(code, f"characters {listed}", member=name)


def _path_problems(name: str) -> Iterator[Problem]:
    """Refuse by segment: `a..b` is an honest name (4.4.17.1)."""
    parts = name.split("/")
    if "\\" in name:
        yield finding(ProblemCode.NAME_BACKSLASH, f"at character {name.find(chr(0x5C))}", member=name)
    if name.startswith(("/", "\\")):
        yield finding(ProblemCode.NAME_ABSOLUTE, "4.4.17.1: no leading slash", member=name)
    if _DRIVE.match(name):
        yield finding(ProblemCode.NAME_DRIVE, f"drive {name[:2]}", member=name)
    if ".." in re.split(r"[/\\]", name):
        yield finding(ProblemCode.NAME_TRAVERSAL, "a segment is “..”", member=name)
    if "." in parts:
        yield finding(ProblemCode.NAME_DOT_SEGMENT, "a segment is “.”", member=name)
    # One empty part in front is an absolute name, one at the end a folder; both are told elsewhere.
    if "" in parts[1:-1] or name == "/":
        yield finding(ProblemCode.NAME_EMPTY_SEGMENT, "a segment is empty", member=name)


def clash_key(name: str) -> str:
    """Return what two names share that some file system takes for the same.

    Case and Unicode form are folded; invisible format characters, and dots and spaces at the end of a
    part, which Windows drops, are left out.
    """
    if not name.isascii():
        name = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
        name = "".join(character for character in name if unicodedata.category(character) != "Cf")
    name = name.casefold()
    if "./" in name or " /" in name or name.endswith((".", " ")):
        name = "/".join(part.rstrip(". ") or part for part in name.split("/"))
    return name


def clash_problems(names: Sequence[str], raw_names: Sequence[bytes], limits: Limits) -> Iterator[Problem]:
    """Yield a finding for each name that clashes with an earlier one, naming both.

    `names` are full decoded paths in archive order; a folder's ends in `/`. `raw_names` are the same
    before decoding: two that are equal are one name to readers that ignore the Unicode path.
    """
    seen_raw: dict[bytes, int] = {}
    seen: dict[str, int] = {}
    folders: dict[str, str] = {}
    keys = [clash_key(name).removesuffix("/") for name in names]
    for index, (name, raw, key) in enumerate(zip(names, raw_names, keys, strict=True)):
        first = seen.setdefault(key, index)
        first_raw = seen_raw.setdefault(raw, index)
        if first != index or first_raw != index:
            yield _clash(names[min(first, first_raw)], name)
        end = key.rfind("/")
        if len(key) > 4 * limits.name_bytes or key.count("/") > limits.depth:
            continue  # refused already; all the folders on its way would need far more memory than itself
        # Every folder on the way is recorded once; a known one has had its parents recorded with it.
        while end > 0 and key[:end] not in folders:
            folders[key[:end]] = name
            end = key.rfind("/", 0, end)
    for name, key in zip(names, keys, strict=True):
        if key in folders and not name.endswith("/"):
            yield finding(
                ProblemCode.FILE_AND_FOLDER,
                f"{name!r} is an entry of its own",
                member=folders[key],
                other=name,
            )


def _clash(first: str, second: str) -> Problem:
    if first == second:
        return finding(ProblemCode.DUPLICATE_NAME, "the same full path twice", member=second)
    if first.endswith("/") != second.endswith("/"):
        folder, file = (first, second) if first.endswith("/") else (second, first)
        return finding(
            ProblemCode.FILE_AND_FOLDER, f"{file!r} is an entry of its own", member=folder, other=file
        )
    return finding(
        ProblemCode.LOOKALIKE_NAME,
        "equal when case, Unicode form (NFKC), invisible characters and trailing dots are ignored",
        member=second,
        other=first,
    )
