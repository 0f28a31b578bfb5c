"""How findings are worded and collected: one table of sentences, one capped collector."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from veripost.errors import Problem, ProblemCode, Severity

_AGAIN = "Make the ZIP again from the original files, with the program that your computer came with."
_SEND_AGAIN = "Send the file again; if that does not help, make the ZIP again."
_RENAME = "Rename it using ordinary letters, digits, dots, dashes and underscores, and zip again."
_TAMPERED = "Archives written by ordinary programs never look like this. " + _AGAIN

# A sentence for a machinist, and what to do about it. `{member}` is the member's name as shown.
WORDING: Final[Mapping[ProblemCode, tuple[str, str]]] = MappingProxyType(
    {
        ProblemCode.NOT_A_ZIP: ("This file is not a ZIP archive.", "Send a ZIP archive."),
        ProblemCode.TRUNCATED_ARCHIVE: (
            "The ZIP is not complete: its end is missing.",
            "The upload or an earlier copy was probably interrupted. " + _SEND_AGAIN,
        ),
        ProblemCode.PREFIX_DATA: (
            "There is other data in front of the ZIP.",
            "A self-extracting archive (.exe) looks like this: make an ordinary ZIP instead.",
        ),
        ProblemCode.TRAILING_DATA: (
            "There is other data behind the end of the ZIP.",
            "Two files may have been joined, or a download went wrong. " + _AGAIN,
        ),
        ProblemCode.ARCHIVE_TOO_LARGE: (
            "The ZIP is larger than VeriPost takes.",
            "Split the package, or remove what does not belong to it.",
        ),
        ProblemCode.COMMENT_TOO_LONG: (
            "The comment attached to the ZIP is too long.",
            "Remove the archive's comment.",
        ),
        ProblemCode.COMMENT_SIGNATURE: (
            "The comment attached to the ZIP hides parts of another archive.",
            _TAMPERED,
        ),
        ProblemCode.MULTI_DISK: (
            "This is one part of a ZIP that was split into several files.",
            "Make the ZIP again as one single file, without splitting it into volumes.",
        ),
        ProblemCode.TOO_MANY_ENTRIES: (
            "There are more files in the ZIP than VeriPost takes.",
            "Send only the files of one package.",
        ),
        ProblemCode.ENTRY_COUNT_MISMATCH: (
            "The ZIP's table of contents holds another number of files than it says.",
            _AGAIN,
        ),
        ProblemCode.DIRECTORY_TOO_LARGE: (
            "The ZIP's table of contents is larger than any package needs.",
            "Send only the files of one package, without comments on the files.",
        ),
        ProblemCode.DIRECTORY_MISPLACED: (
            "The ZIP's table of contents is not where the ZIP says it is.",
            _AGAIN,
        ),
        ProblemCode.DIRECTORY_OUT_OF_BOUNDS: (
            "A part of the ZIP is missing: its table of contents should lie beyond its end.",
            _SEND_AGAIN,
        ),
        ProblemCode.DIRECTORY_CORRUPT: ("The ZIP's table of contents is damaged.", _SEND_AGAIN),
        ProblemCode.DIRECTORY_SIGNED: (
            "The ZIP's table of contents carries a digital signature, which VeriPost does not read.",
            "Make the ZIP again without signing it.",
        ),
        ProblemCode.DIRECTORY_ENCRYPTED: (
            "The ZIP's table of contents is encrypted.",
            "Make the ZIP again without a password and without encryption.",
        ),
        ProblemCode.ZIP64_LOCATOR_MISSING: (
            "The ZIP says that it has a large-file record, but does not say where.",
            _AGAIN,
        ),
        ProblemCode.ZIP64_RECORD_MISPLACED: (
            "The ZIP's large-file record is not where the ZIP says it is.",
            _AGAIN,
        ),
        ProblemCode.ZIP64_RECORD_MISMATCH: ("The ZIP's two end records contradict each other.", _TAMPERED),
        ProblemCode.ZIP64_RECORD_EXTENDED: (
            "The ZIP's large-file record holds data that VeriPost does not know.",
            _AGAIN,
        ),
        ProblemCode.TOTAL_TOO_LARGE: (
            "Unpacked, the files in the ZIP are together larger than VeriPost takes.",
            "Split the package, or remove what does not belong to it.",
        ),
        ProblemCode.ENTRY_OUT_OF_BOUNDS: (
            "“{member}” should lie outside the part of the ZIP that holds files.",
            _SEND_AGAIN,
        ),
        ProblemCode.ENTRIES_OVERLAP: (
            "“{member}” shares its place in the ZIP with another file.",
            "Archives that try to flood a computer look like this. " + _AGAIN,
        ),
        ProblemCode.UNCLAIMED_BYTES: (
            "There is data in the ZIP that belongs to no listed file (at “{member}”).",
            _TAMPERED,
        ),
        ProblemCode.EXTRA_MALFORMED: ("The additional information on “{member}” is damaged.", _AGAIN),
        ProblemCode.EXTRA_DUPLICATE: (
            "“{member}” carries the same additional information twice.",
            _TAMPERED,
        ),
        ProblemCode.ZIP64_EXTRA_INVALID: ("The large-file information on “{member}” is wrong.", _AGAIN),
        ProblemCode.UNICODE_PATH_INVALID: ("The second name of “{member}” is damaged.", _RENAME),
        ProblemCode.UNICODE_PATH_CONFLICT: ("“{member}” has two names that contradict each other.", _RENAME),
        ProblemCode.ENCRYPTED: (
            "“{member}” is protected with a password.",
            "VeriPost cannot read protected files: make the ZIP again without a password.",
        ),
        ProblemCode.STRONG_ENCRYPTION: (
            "“{member}” is encrypted.",
            "VeriPost cannot read encrypted files: make the ZIP again without a password.",
        ),
        ProblemCode.PATCHED_DATA: (
            "“{member}” is only a patch for another file.",
            "Put the complete file into the ZIP.",
        ),
        ProblemCode.UNSUPPORTED_METHOD: (
            "“{member}” is packed in a way that VeriPost does not read.",
            "Make the ZIP with the usual method: “Deflate” in 7-Zip and WinRAR, the default elsewhere.",
        ),
        ProblemCode.VERSION_TOO_NEW: (
            "“{member}” asks for a newer ZIP reader than exists for this kind of file.",
            _AGAIN,
        ),
        ProblemCode.SYMLINK: (
            "“{member}” is a link to another file, not a file.",
            "Put the file itself into the ZIP (with Info-ZIP: leave out -y).",
        ),
        ProblemCode.SPECIAL_FILE: (
            "“{member}” is marked as a device or a pipe, not as a file.",
            "Put ordinary files into the ZIP; zip a file rather than piping it into the zip program.",
        ),
        ProblemCode.FOLDER_WITH_DATA: ("“{member}” is a folder, and yet it has content.", _TAMPERED),
        ProblemCode.FOLDER_MISMATCH: (
            "“{member}” is marked as a folder, but its name is that of a file.",
            _AGAIN,
        ),
        ProblemCode.STORED_SIZE_MISMATCH: (
            "“{member}” has two different sizes although it is not compressed.",
            _AGAIN,
        ),
        ProblemCode.MEMBER_TOO_LARGE: (
            "“{member}” is larger than VeriPost takes.",
            "Remove it, if it does not belong to the package.",
        ),
        ProblemCode.RATIO_TOO_HIGH: (
            "“{member}” would grow more on unpacking than any real file does.",
            "Archives that try to flood a computer look like this. Remove the file and zip again.",
        ),
        ProblemCode.NAME_EMPTY: ("A file in the ZIP has no name.", _AGAIN),
        ProblemCode.NAME_NUL: ("The name “{member}” contains a zero byte.", _RENAME),
        ProblemCode.NAME_ENCODING: ("The name “{member}” is not written in valid UTF-8.", _RENAME),
        ProblemCode.NAME_CONTROL: ("The name “{member}” contains control characters.", _RENAME),
        ProblemCode.NAME_BIDI: (
            "The name “{member}” contains invisible characters that turn the direction of writing.",
            _RENAME,
        ),
        ProblemCode.NAME_UNASSIGNED: (
            "The name “{member}” contains characters that no alphabet has.",
            _RENAME,
        ),
        ProblemCode.NAME_ABSOLUTE: (
            "The name “{member}” starts at the root of a disk.",
            "Zip the folder from the folder above it, so that names do not start with “/”.",
        ),
        ProblemCode.NAME_DRIVE: (
            "The name “{member}” starts with a drive letter.",
            "Zip the folder itself, without the drive it lies on.",
        ),
        ProblemCode.NAME_BACKSLASH: (
            "The name “{member}” contains a backslash.",
            "Folders in a ZIP are separated by “/”. Make the ZIP with Windows Explorer or 7-Zip.",
        ),
        ProblemCode.NAME_TRAVERSAL: (
            "The name “{member}” points out of the ZIP (“..”).",
            "Zip the folder itself rather than a path that leads to it.",
        ),
        ProblemCode.NAME_DOT_SEGMENT: (
            "The name “{member}” contains a folder called “.”.",
            "Zip the folder by its name rather than as “.”.",
        ),
        ProblemCode.NAME_EMPTY_SEGMENT: (
            "The name “{member}” contains a folder without a name (“//”).",
            _AGAIN,
        ),
        ProblemCode.NAME_TOO_LONG: ("The name “{member}” is too long.", "Shorten the folder or file names."),
        ProblemCode.NAME_PART_TOO_LONG: (
            "A part of the name “{member}” is too long.",
            "Shorten the folder or file name.",
        ),
        ProblemCode.NAME_TOO_DEEP: (
            "“{member}” lies in too many folders within folders.",
            "Zip the innermost folder that holds the files.",
        ),
        ProblemCode.DUPLICATE_NAME: (
            "“{member}” is in the ZIP more than once.",
            "Remove one of the two, so that it is clear which one counts.",
        ),
        ProblemCode.LOOKALIKE_NAME: (
            "“{member}” and “{other}” are the same name on many computers.",
            "Rename one of the two.",
        ),
        ProblemCode.FILE_AND_FOLDER: (
            "“{other}” is a file, and yet “{member}” needs it to be a folder.",
            "Rename one of the two.",
        ),
        ProblemCode.LOCAL_HEADER_MISSING: (
            "“{member}” does not begin where the table of contents says.",
            _SEND_AGAIN,
        ),
        ProblemCode.LOCAL_HEADER_OVERRUN: (
            "“{member}” does not fit into the place that the table of contents gives it.",
            _SEND_AGAIN,
        ),
        ProblemCode.LOCAL_NAME_MISMATCH: (
            "“{member}” has another name inside the ZIP than in its table of contents.",
            _TAMPERED,
        ),
        ProblemCode.LOCAL_METHOD_MISMATCH: (
            "“{member}” contradicts the table of contents about how it is packed.",
            _TAMPERED,
        ),
        ProblemCode.LOCAL_FLAGS_MISMATCH: (
            "“{member}” contradicts the table of contents about its properties.",
            _TAMPERED,
        ),
        ProblemCode.LOCAL_SIZE_MISMATCH: (
            "“{member}” contradicts the table of contents about its size.",
            _TAMPERED,
        ),
        ProblemCode.LOCAL_CRC_MISMATCH: (
            "“{member}” contradicts the table of contents about its checksum.",
            _TAMPERED,
        ),
        ProblemCode.DESCRIPTOR_MISSING: (
            "“{member}” lacks the size record that should follow it.",
            _AGAIN,
        ),
        ProblemCode.DESCRIPTOR_MISMATCH: (
            "The size record that follows “{member}” contradicts the table of contents.",
            _AGAIN,
        ),
        ProblemCode.DESCRIPTOR_AMBIGUOUS: (
            "It cannot be told for certain where “{member}” ends: it holds another ZIP without compression.",
            "Make the ZIP with Windows Explorer, 7-Zip or Info-ZIP; or unpack the inner ZIP first.",
        ),
        ProblemCode.DEFLATE_CORRUPT: ("“{member}” is damaged and cannot be unpacked.", _SEND_AGAIN),
        ProblemCode.DEFLATE_TRUNCATED: ("“{member}” is not complete: its end is missing.", _SEND_AGAIN),
        ProblemCode.DATA_AFTER_STREAM: ("There is hidden data behind the content of “{member}”.", _TAMPERED),
        ProblemCode.LONGER_THAN_DECLARED: ("“{member}” is larger than the ZIP says.", _AGAIN),
        ProblemCode.SHORTER_THAN_DECLARED: ("“{member}” is smaller than the ZIP says.", _AGAIN),
        ProblemCode.CRC_MISMATCH: ("“{member}” is damaged: its checksum is wrong.", _SEND_AGAIN),
        ProblemCode.MORE_PROBLEMS: (
            "There are more problems than are listed here.",
            "Solve the ones above first; the same cause is often behind all of them.",
        ),
    }
)

_SHOWN_CHARACTERS = 200
_DETAIL_CHARACTERS = 1000


def shown(name: str) -> str:
    """Return `name` fit for people, logs and databases: nothing invisible, no NUL, at most 200 characters.

    What cannot be shown is escaped as in a Python string, so a right-to-left override cannot disguise
    the very message that complains about it.
    """
    if len(name) > _SHOWN_CHARACTERS:
        name = name[:_SHOWN_CHARACTERS] + "…"
    if name.isprintable():
        return name
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in name
    )


def finding(
    code: ProblemCode,
    detail: str,
    *,
    member: str | None = None,
    other: str = "",
    message: str | None = None,
    hint: str | None = None,
) -> Problem:
    """Return the error `code` in its usual words, or in `message` and `hint` where those say it better."""
    name = None if member is None else shown(member)
    usual_message, usual_hint = WORDING[code]
    return Problem(
        code=code,
        severity=Severity.ERROR,
        member=name,
        message=message or usual_message.format(member=name, other=shown(other)),
        detail=detail if len(detail) <= _DETAIL_CHARACTERS else detail[:_DETAIL_CHARACTERS] + "…",
        hint=hint or usual_hint,
    )


class Findings:
    """Collects findings in order, each once; beyond `limit` errors or notices it only counts."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: dict[Problem, None] = {}
        self._seen = dict.fromkeys(Severity, 0)

    @property
    def has_errors(self) -> bool:
        """Tell whether an error has been added, listed or only counted."""
        return self._seen[Severity.ERROR] > 0

    @property
    def unlisted_errors(self) -> int:
        """Return how many errors were only counted."""
        return max(0, self._seen[Severity.ERROR] - self._limit)

    def count_unlisted(self, errors: int) -> None:
        """Count errors that another collector could not list either."""
        self._seen[Severity.ERROR] += errors

    def add(self, problem: Problem) -> None:
        """Take one finding; an equal one that is already listed is not counted again."""
        if problem in self._kept:
            return
        self._seen[problem.severity] += 1
        if self._seen[problem.severity] <= self._limit:
            self._kept[problem] = None

    def extend(self, problems: Iterable[Problem]) -> None:
        """Take several findings in order."""
        for problem in problems:
            self.add(problem)

    def listed(self) -> tuple[Problem, ...]:
        """Return the findings, at last the number of those that were too many to list, if any."""
        more = tuple(
            Problem(
                code=ProblemCode.MORE_PROBLEMS,
                severity=severity,
                member=None,
                message=f"There are {seen - self._limit} more {what} than are listed here.",
                detail=f"{seen} {what} found, the first {self._limit} listed",
                hint=WORDING[ProblemCode.MORE_PROBLEMS][1],
            )
            for severity, what in ((Severity.ERROR, "problems"), (Severity.NOTICE, "remarks"))
            if (seen := self._seen[severity]) > self._limit
        )
        return (*self._kept, *more)
