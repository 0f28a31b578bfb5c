"""The archive gate: decides from the bytes alone whether a ZIP archive may come in.

    directory = read_directory(source, limits)      all rules that need no member's bytes
    reader = MemberReader(member, raw, limits)      one member: chunks, then a verdict
    report = inspect(source, limits)                both, for a whole archive
    directory = check_listing(rows, limits)         what names and sizes tell before there is an archive

Nothing here imports more than the standard library, `veripost.errors` and (for speed, `inflate` only) ISA-L.
"""

from veripost.archive.directory import read_directory
from veripost.archive.entries import Directory, Member
from veripost.archive.limits import Limits
from veripost.archive.listing import check_listing
from veripost.archive.reader import CHUNK_BYTES, MemberReader
from veripost.archive.report import MemberReport, Report, inspect, merge
from veripost.archive.source import BytesSource, FileSource, Source

__all__ = [
    "CHUNK_BYTES",
    "BytesSource",
    "Directory",
    "FileSource",
    "Limits",
    "Member",
    "MemberReader",
    "MemberReport",
    "Report",
    "Source",
    "check_listing",
    "inspect",
    "merge",
    "read_directory",
]
