"""`veripost upload`."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import click

from veripost.schemas import StatusView
from veripost_cli.bars import Bar, Bars
from veripost_cli.exits import Exit, exit_of, exit_of_package
from veripost_cli.folders import zipped
from veripost_cli.output import BAD, GOOD, error_document, plain
from veripost_cli.session import Session, command
from veripost_client import DEFAULT_PLATFORM, ClientError, Upload, facts_of


@dataclass(frozen=True, slots=True)
class _Wish:
    """What the user asked for, of every file."""

    platform: str
    allow_duplicate: bool
    wait: bool
    seconds: float


@dataclass(slots=True)
class _Result:
    """How far one file came."""

    path: Path
    landed: Upload | None = None
    status: StatusView | None = None
    error: ClientError | OSError | None = None

    @property
    def exit(self) -> Exit:
        """The exit status that this file alone would give."""
        if self.error is not None:
            return exit_of(self.error)
        if self.status is not None and self.status.status == "error":
            return exit_of_package(self.status.error_code)
        return Exit.OK


@click.command("upload")
@click.argument(
    "paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path), metavar="FILE..."
)
@click.option("--wait", is_flag=True, help="Wait for the verdict on each.")
@click.option("--timeout", default=600.0, show_default=True, help="Seconds to wait for a verdict.")
@click.option("--zip", "zip_folders", is_flag=True, help="Zip folders on the way.")
@click.option("--platform", default=DEFAULT_PLATFORM, show_default=True, help="What the packages are for.")
@click.option("--allow-duplicate", is_flag=True, help="Also what is a ready package already.")
@click.option("--jobs", type=click.IntRange(1, 32), default=4, show_default=True, help="Files at a time.")
@command
def upload_command(
    session: Session,
    *,
    paths: tuple[Path, ...],
    wait: bool,
    timeout: float,
    zip_folders: bool,
    platform: str,
    allow_duplicate: bool,
    jobs: int,
) -> Exit:
    """Send ZIP files of any size, several at a time.

    They go straight to the server's store, with their SHA-256, so that it takes nothing else. An upload that
    was interrupted is gone on with by the next call: it does not become a second package.
    """
    folders = [path for path in paths if path.is_dir()]
    if folders and not zip_folders:
        raise click.UsageError(f"{folders[0]} is a folder; --zip makes a package of it.")
    session.client  # noqa: B018 - whoever has not logged in should hear it once, not once a file
    wish = _Wish(platform, allow_duplicate, wait, timeout)
    worst = Exit.OK
    results = []
    with session.bars() as bars:
        for result in session.in_parallel(lambda path: _send(session, bars, path, wish), paths, jobs=jobs):
            session.output.record(_document(result))
            worst = max(worst, result.exit)
            results.append(result)
    for result in results:
        _tell(session, result)
    return worst


def _send(session: Session, bars: Bars, path: Path, wish: _Wish) -> _Result:
    result = _Result(path)
    bar = bars.add(path.name or str(path))
    try:
        if path.is_dir():
            bar.state("zipping")
        with zipped(path, on_skipped=session.output.note) if path.is_dir() else nullcontext(path) as archive:
            _move(session, bar, archive, result, wish)
        if wish.wait and result.landed is not None:
            result.status = session.client.wait(
                result.landed.package_id,
                seconds=wish.seconds,
                on_change=bar.follow,
            )
    except (ClientError, OSError) as error:
        result.error = error
    finally:
        bar.end()
    return result


def _move(session: Session, bar: Bar, archive: Path, result: _Result, wish: _Wish) -> None:
    def on_progress(done: int) -> None:
        session.check()
        bar.at(done)

    bar.state("hashing")
    facts = facts_of(archive)
    bar.total(facts.size)
    bar.state("sending")
    name = f"{result.path.resolve().name}.zip" if archive is not result.path else result.path.name
    result.landed = session.client.upload(
        archive,
        filename=name,
        platform=wish.platform,
        allow_duplicate=wish.allow_duplicate,
        facts=facts,
        on_progress=on_progress,
    )


def _document(result: _Result) -> dict[str, object]:
    landed, status = result.landed, result.status
    return {
        "file": str(result.path),
        "package_id": landed and str(landed.package_id),
        "job_id": landed and landed.job_id and str(landed.job_id),
        "sha256": landed and landed.sha256,
        "size_bytes": landed and landed.size,
        "resumed": landed and landed.resumed,
        "duplicate": landed and landed.duplicate,
        "status": plain(status) if status else None,
        "error": error_document(result.error) if result.error else None,
    }


def _tell(session: Session, result: _Result) -> None:
    output, landed, status = session.output, result.landed, result.status
    package_id: UUID | str = landed.package_id if landed else ""
    if landed is not None and landed.duplicate and result.error is None:
        output.line(f"✓ {result.path}  {package_id}  was there already: the very same bytes")
    elif result.error is not None:
        output.line(f"✗ {result.path}  {package_id}".rstrip(), BAD)
        if not output.as_json:
            output.failed(result.error)
    elif status is None:
        again = ", of an upload that was interrupted" if landed and landed.resumed else ""
        output.line(f"✓ {result.path}  {package_id}  landed{again}")
    elif status.status == "ready":
        output.line(f"✓ {result.path}  {package_id}  ready, {status.file_count} files", GOOD)
        output.problems(status.problems)
    else:
        output.line(f"✗ {result.path}  {package_id}  {status.error_message}", BAD)
        output.problems(status.problems)
