"""`veripost check`."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import click

from veripost.platforms.registry import DEFAULT_PLATFORM, PLATFORMS
from veripost_cli.checking import check
from veripost_cli.exits import Exit, exit_of
from veripost_cli.folders import zipped
from veripost_cli.output import BAD, GOOD, error_document
from veripost_cli.session import Session, command


@click.command("check")
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
@click.option(
    "--platform",
    type=click.Choice(sorted(PLATFORMS)),
    default=DEFAULT_PLATFORM,
    show_default=True,
    help="Whose rules apply.",
)
@command
def check_command(session: Session, *, paths: tuple[Path, ...], platform: str) -> Exit:
    """Check ZIP files by the server's own rules, without a server; a folder as if it were zipped.

    A server whose operator has set other limits or more file types may judge otherwise.
    """
    return max(_check(session, path, platform) for path in paths)


def _check(session: Session, path: Path, platform: str) -> Exit:
    output = session.output
    try:
        with zipped(path, on_skipped=output.note) if path.is_dir() else nullcontext(path) as archive:
            verdict = check(archive, PLATFORMS[platform])
    except OSError as error:
        output.record(
            {
                "file": str(path),
                "accepted": None,
                "problems": [],
                "members": [],
                "error": error_document(error),
            }
        )
        if not output.as_json:
            output.failed(error)
        return exit_of(error)
    output.record(
        {
            "file": str(path),
            "accepted": verdict.accepted,
            "problems": verdict.problems,
            "members": verdict.members,
            "error": None,
        }
    )
    if verdict.accepted:
        output.line(f"✓ {path}: accepted, {verdict.files} files", GOOD)
    else:
        output.line(f"✗ {path}: refused", BAD)
    output.problems(verdict.problems)
    return Exit.OK if verdict.accepted else Exit.REFUSED
