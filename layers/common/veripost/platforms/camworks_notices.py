"""What is odd about a CAMWorks package: worth telling its engineer, never a reason to refuse it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from veripost.errors import Problem, ProblemCode, Severity
from veripost.platforms.camworks import Source, WarningCode, by_basename

_NAMED: Final = 10  # that many names a notice lists; the rest it counts


def notices(paths: Sequence[str], sources: Mapping[str, Source]) -> list[Problem]:
    """Return the notices on a package: one for each file and kind of oddity, in the order of `paths`.

    `paths` are all the package's files, `sources` what those of them say that were parsed (`.SRC`, `.LIB`).
    """
    known = {section.name.casefold() for source in sources.values() for section in source.sections}
    # Where a file was too large to be listed whole, a section that seems missing may be in its rest.
    complete = all(source.complete for source in sources.values())
    places = by_basename(paths)
    found = list(_pairing(paths, sources))
    for path in paths:
        source = sources.get(path)
        if source is None:
            continue
        found.extend(_warnings(path, source))
        found.extend(_duplicates(path, source))
        found.extend(_missing_libraries(path, source, places))
        if complete:
            found.extend(_unresolved_calls(path, source, known))
    return found


def _pairing(paths: Sequence[str], sources: Mapping[str, Source]) -> Iterator[Problem]:
    """UPG, “pairing”: a `.SRC` compiles to a `.CTL` and a `.LNG` of its stem."""
    split = {path: _split(path) for path in paths}
    stems = {stem for stem, extension in split.values() if extension == ".src"}
    included = {library.basename.casefold() for source in sources.values() for library in source.libraries}
    named = _listed(sorted(stems)) or "(none)"
    for path, (stem, extension) in split.items():
        if stem in stems or stem + extension in included:
            continue
        if extension == ".ctl":
            yield _notice(
                ProblemCode.CTL_WITHOUT_SRC,
                path,
                f"“{path}” was compiled from a .SRC that is not in this package.",
                detail=f"no .SRC is called {stem!r}",
                hint="Add the .SRC of the same name, or remove the .CTL if it is left over.",
            )
        else:
            yield _notice(
                ProblemCode.STEM_MISMATCH,
                path,
                f"“{path}” bears the name of no .SRC in this package.",
                detail=f"names of the .SRC files: {named}",
                hint="Check that it belongs to this post processor.",
            )


def _warnings(path: str, source: Source) -> Iterator[Problem]:
    # That a file has too many facts is told by whoever set the bound.
    odd = [warning for warning in source.warnings if warning.code is not WarningCode.TOO_MANY_FACTS]
    if odd:
        yield _notice(
            ProblemCode.SOURCE_WARNINGS,
            path,
            f"“{path}” holds lines that make no sense to VeriPost; they are stored as they are.",
            detail=_listed([f"line {warning.line}: {warning.message}" for warning in odd], "; "),
            hint="Look at these lines if the post does not do what it should.",
        )


def _duplicates(path: str, source: Source) -> Iterator[Problem]:
    lines = defaultdict[str, list[int]](list)
    for section in source.sections:
        lines[section.name].append(section.first_line)
    twice = [
        f"{name} (lines {', '.join(map(str, places[:_NAMED]))})"
        for name, places in lines.items()
        if name and len(places) > 1
    ]
    if twice:
        yield _notice(
            ProblemCode.SECTION_DEFINED_TWICE,
            path,
            f"In “{path}”, {_counted(len(twice), 'section is', 'sections are')} defined more than once.",
            detail=_listed(twice),
            hint="Keep the one that is meant and disable the others with a star.",
        )


def _missing_libraries(path: str, source: Source, places: Mapping[str, str]) -> Iterator[Problem]:
    missing = dict.fromkeys(library.path for library in source.libraries if library.resolve(places) is None)
    if missing:
        yield _notice(
            ProblemCode.LIBRARY_MISSING,
            path,
            f"“{path}” includes {_counted(len(missing), 'library', 'libraries')} "
            "that this package does not hold.",
            detail=_listed(list(missing)),
            hint="Libraries that CAMWorks brings along, such as MILL.LIB, need not be sent.",
        )


def _unresolved_calls(path: str, source: Source, known: set[str]) -> Iterator[Problem]:
    # Whether case matters in a name is not documented, so it is not held against anyone.
    missing = dict.fromkeys(
        name for section in source.sections for name in section.calls if name.casefold() not in known
    )
    if missing:
        yield _notice(
            ProblemCode.CALL_UNRESOLVED,
            path,
            f"“{path}” calls {_counted(len(missing), 'section', 'sections')} "
            "that no file of this package defines.",
            detail=_listed(list(missing)),
            hint="That is normal for sections of the libraries that CAMWorks brings along, such as MILL.LIB.",
        )


def _split(path: str) -> tuple[str, str]:
    stem, dot, extension = path.replace("\\", "/").rpartition("/")[2].casefold().rpartition(".")
    return (stem, dot + extension) if stem else (dot + extension, "")


def _counted(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"


def _listed(names: Sequence[str], separator: str = ", ") -> str:
    more = len(names) - _NAMED
    return separator.join(names[:_NAMED]) + (f" and {more:,} more" if more > 0 else "")


def _notice(code: ProblemCode, path: str, message: str, *, detail: str, hint: str) -> Problem:
    return Problem(code, Severity.NOTICE, path, message, detail=detail, hint=hint)
