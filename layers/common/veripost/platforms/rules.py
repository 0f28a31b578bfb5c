"""Checks a list of files against a platform's rules: pure, so a bare file list can be checked too."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from veripost.errors import Problem, ProblemCode, Severity
from veripost.platforms.registry import DEFAULT_PLATFORM, OS_LITTER, PLATFORMS, Platform


@dataclass(frozen=True, slots=True)
class Selected:
    """A file that belongs to the package: where it stood in the list, and its flattened name."""

    index: int
    path: str
    filename: str


@dataclass(frozen=True, slots=True)
class Selection:
    """The verdict on a file list: what is kept, every finding, and the package's name (if known)."""

    files: tuple[Selected, ...]
    problems: tuple[Problem, ...]
    name: str | None


def extension_of(path: str) -> str:
    """Return the upper-cased extension of `path` with its dot, or an empty string."""
    filename = path.rsplit("/", 1)[-1]
    stem, dot, suffix = filename.rpartition(".")
    return f".{suffix.upper()}" if dot and stem else ""


def stem_of(path: str) -> str:
    """Return the file name of `path` without its extension: what a package is called until it has a name."""
    filename = path.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
    stem, dot, _ = filename.rpartition(".")
    return (stem if dot and stem else filename)[:1024] or "unnamed"


def is_junk(path: str, skipped: frozenset[str] = OS_LITTER) -> bool:
    """Tell whether `path` is an operating system's litter (`__MACOSX/`, `._*`), or called as in `skipped`."""
    *folders, filename = path.split("/")
    return (
        any(folder.casefold() == "__macosx" for folder in folders)
        or filename.startswith("._")
        or filename.casefold() in skipped
    )


def select(platform: Platform, rows: Sequence[tuple[str, int]]) -> Selection:
    """Apply `platform`'s rules to `rows` of (path, size in bytes) and report every finding at once.

    A path that ends in `/` is a directory entry. Directories are flattened to the file name; two paths
    that flatten to the same name (ignoring case) are an error that names both.
    """
    files: list[Selected] = []
    problems: list[Problem] = []
    taken: dict[str, str] = {}
    for index, (path, _size) in enumerate(rows):
        if path.endswith("/"):
            continue
        if is_junk(path, platform.skipped):
            problems.append(_junk(path))
            continue
        extension = extension_of(path)
        filename = path.rsplit("/", 1)[-1]
        if extension not in platform.extensions:
            problems.append(_forbidden(platform, path, extension))
            continue
        key = filename.casefold()
        if key in taken:
            problems.append(_collision(taken[key], path, filename))
            continue
        taken[key] = path
        files.append(Selected(index=index, path=path, filename=filename))

    problems.extend(_missing(platform, files, [path for path, _ in rows], problems))
    return Selection(files=tuple(files), problems=tuple(problems), name=_package_name(platform, files))


def unknown_platform(key: str) -> Problem:
    """Return the finding that no platform is called `key`."""
    known = ", ".join(PLATFORMS)
    return Problem(
        code=ProblemCode.UNKNOWN_PLATFORM,
        severity=Severity.ERROR,
        member=None,
        message=f"VeriPost does not know the platform “{key}”."
        if key
        else "The ZIP lies in no platform's folder, so VeriPost cannot tell what it is for.",
        detail=f"known platforms: {known}",
        hint=f"Name one of them; a ZIP dropped into the bucket belongs below drops/{DEFAULT_PLATFORM}/.",
    )


def _package_name(platform: Platform, files: Iterable[Selected]) -> str | None:
    naming = [file for file in files if extension_of(file.path) == platform.name_extension]
    if not naming:
        return None
    first = min(naming, key=lambda file: file.path.casefold())
    return first.filename.rpartition(".")[0]


def _listed(extensions: Iterable[str]) -> str:
    return " ".join(sorted(extensions))


def _junk(path: str) -> Problem:
    return Problem(
        code=ProblemCode.JUNK_SKIPPED,
        severity=Severity.NOTICE,
        member=path,
        message=f"“{path}” was added by an operating system, not by you; it was skipped.",
    )


def _forbidden(platform: Platform, path: str, extension: str) -> Problem:
    allowed = _listed(platform.extensions)
    hint = f"A {platform.label} package holds only {allowed} files. Remove this one and zip again."
    if extension == ".ZIP":
        hint = "It is a ZIP inside the ZIP: unpack it and zip its files, or send the inner ZIP itself."
    inner = extension_of(path[: -len(extension)]) if extension else ""
    if inner in platform.extensions:
        hint = f"It looks like a {inner} file with “{extension.lower()}” added: rename it and zip again."
    return Problem(
        code=ProblemCode.FORBIDDEN_EXTENSION,
        severity=Severity.ERROR,
        member=path,
        message=f"“{path}” is not a file that a {platform.label} package may contain.",
        detail=f"extension {extension or '(none)'} is not one of {allowed}",
        hint=hint,
    )


def _collision(first: str, second: str, filename: str) -> Problem:
    return Problem(
        code=ProblemCode.NAME_COLLISION,
        severity=Severity.ERROR,
        member=second,
        message=f"“{first}” and “{second}” would both be stored as “{filename}”.",
        detail="directories are flattened and names are compared without case",
        hint="Keep one of the two, or rename one.",
    )


def _missing(
    platform: Platform, files: Sequence[Selected], paths: Sequence[str], found: Sequence[Problem]
) -> Iterable[Problem]:
    if not files and not any(problem.severity is Severity.ERROR for problem in found):
        only_junk = any(not path.endswith("/") for path in paths)
        yield Problem(
            code=ProblemCode.EMPTY_PACKAGE,
            severity=Severity.ERROR,
            member=None,
            message="The ZIP holds nothing but files that an operating system added."
            if only_junk
            else "The ZIP is empty: there is not one file in it.",
            detail=f"{len(paths)} entries, none of them a file of the package",
            hint="Zip the folder that holds the post-processor files and send that.",
        )
        return
    present = {extension_of(file.path) for file in files}
    for extension in sorted(platform.required - present):
        nested = re.search(r"\.zip$", "\n".join(paths), re.IGNORECASE | re.MULTILINE)
        yield Problem(
            code=ProblemCode.REQUIRED_FILE_MISSING,
            severity=Severity.ERROR,
            member=None,
            message=f"There is no {extension} file in this package, "
            f"and a {platform.label} needs at least one.",
            detail=f"extensions found: {_listed(present) or '(none)'}",
            hint="There is a ZIP inside this ZIP: unpack it and send the inner one."
            if nested
            else f"Add the {extension} file and zip again.",
        )
