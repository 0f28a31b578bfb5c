"""`veripost download` and `verify`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import click

from veripost.schemas import FileView
from veripost_cli.bars import Bars
from veripost_cli.choosing import matching
from veripost_cli.exits import Exit, exit_of
from veripost_cli.output import BAD, DIM, GOOD, error_document, size
from veripost_cli.session import Session, command
from veripost_client import ClientError, Conflict, NotFound, Saved, State


@dataclass(slots=True)
class _Result:
    """How the download of one file went."""

    filename: str
    saved: Saved | None = None
    error: ClientError | OSError | None = None


@click.command("download")
@click.argument("package_id", type=click.UUID, metavar="ID")
@click.argument("names", nargs=-1, metavar="[FILE]...")
@click.option("--all", "everything", is_flag=True, help="Every file of the package.")
@click.option("--zip", "as_bundle", is_flag=True, help="Every file, in one ZIP that the server packs.")
@click.option("--original", is_flag=True, help="The ZIP exactly as it was uploaded.")
@click.option(
    "-o",
    "--output",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    metavar="DIR",
    help="Folder to write to; made if need be.  [default: here]",
)
@click.option("--force", is_flag=True, help="Write over files that hold something else.")
@click.option("--jobs", type=click.IntRange(1, 32), default=4, show_default=True, help="Files at a time.")
@command
def download_command(
    session: Session,
    *,
    package_id: UUID,
    names: tuple[str, ...],
    everything: bool,
    as_bundle: bool,
    original: bool,
    folder: Path,
    force: bool,
    jobs: int,
) -> Exit:
    """Download files of a package by name or pattern ("*.SRC"), or all of it.

    Each file appears whole and with the recorded SHA-256, or not at all. A download that was interrupted is
    gone on with by the next call; what is there already is not fetched again.
    """
    if (bool(names) + everything + as_bundle + original) != 1:
        raise click.UsageError("Name files of the package, or say one of --all, --zip and --original.")
    if as_bundle or original:
        return _archive(session, package_id, folder, as_bundle=as_bundle, force=force)
    files = _chosen(session, package_id, names)

    def fetch(file: FileView, bars: Bars) -> _Result:
        result = _Result(file.filename)
        bar = bars.add(file.filename, file.size_bytes)

        def on_progress(done: int) -> None:
            session.check()
            bar.at(done)

        try:
            result.saved = session.client.download_file(
                package_id, file, folder, force=force, on_progress=on_progress
            )
        except (ClientError, OSError) as error:
            result.error = error
        finally:
            bar.end()
        return result

    results = []
    with session.bars() as bars:
        for result in session.in_parallel(lambda file: fetch(file, bars), files, jobs=jobs):
            session.output.record(_document(result))
            results.append(result)
    return max((_tell(session, result) for result in results), default=Exit.OK)


def _chosen(session: Session, package_id: UUID, names: tuple[str, ...]) -> list[FileView]:
    files = list(session.client.files(package_id))
    if not files:
        status = session.client.status(package_id)
        raise Conflict(f"This package has no files: it is {status.status}.", detail=status.error_message)
    if not names:
        return files
    chosen, unknown = matching(files, names)
    if unknown:
        raise NotFound(
            f"The package has no such file: {', '.join(unknown)}.",
            code="file_not_found",
            detail=f"it has {', '.join(file.filename for file in files[:20])}",
        )
    return chosen


def _archive(session: Session, package_id: UUID, folder: Path, *, as_bundle: bool, force: bool) -> Exit:
    package = session.client.package(package_id)
    with session.bars() as bars:
        bar = bars.add(f"{package.name}.zip", None if as_bundle else package.size_bytes)

        def on_progress(done: int) -> None:
            session.check()
            bar.at(done)

        fetch = session.client.download_bundle if as_bundle else session.client.download_archive
        saved = fetch(package, folder, force=force, on_progress=on_progress)
    result = _Result(saved.path.name, saved)
    session.output.record(_document(result))
    return _tell(session, result)


def _document(result: _Result) -> dict[str, Any]:
    saved = result.saved
    return {
        "file": result.filename,
        "path": saved and str(saved.path),
        "size_bytes": saved and saved.size,
        "sha256": saved and saved.sha256,
        "verified": saved and saved.verified,
        "fresh": saved and saved.fresh,
        "error": error_document(result.error) if result.error else None,
    }


def _tell(session: Session, result: _Result) -> Exit:
    output = session.output
    if result.error is not None:
        output.line(f"✗ {result.filename}", BAD)
        if not output.as_json:
            output.failed(result.error)
        return exit_of(result.error)
    if result.saved is not None:
        state = "verified" if result.saved.verified else "not verified: its hash was never recorded"
        if not result.saved.fresh:
            state = "was here already, verified"
        output.line(f"✓ {result.saved.path}  {size(result.saved.size)}, {state}")
    return Exit.OK


@click.command("verify")
@click.argument("package_id", type=click.UUID, metavar="ID")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="DIR")
@command
def verify_command(session: Session, *, package_id: UUID, folder: Path) -> Exit:
    """Compare files on disk with the record, by SHA-256. Files beside them are named, and are no fault."""
    styles = {State.SAME: ("✓", GOOD), State.EXTRA: ("·", DIM)}
    counts = dict.fromkeys(State, 0)
    for comparison in session.client.verify(package_id, folder):
        counts[comparison.state] += 1
        session.output.record(comparison)
        mark, style = styles.get(comparison.state, ("✗", BAD))
        session.output.line(f"{mark} {comparison.filename}  {comparison.state}", style)
    wrong = counts[State.DIFFERENT] + counts[State.MISSING]
    session.output.note(f"{counts[State.SAME]} as recorded, {wrong} not, {counts[State.EXTRA]} beside them")
    return Exit.REFUSED if wrong else Exit.OK
