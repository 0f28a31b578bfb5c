"""`veripost list`, `show`, `wait`, `replay` and `rm`."""

from __future__ import annotations

import sys
from typing import Any
from uuid import UUID

import click

from veripost.schemas import PackageDetail, StatusView
from veripost_cli.choosing import Moment
from veripost_cli.exits import Exit, exit_of, exit_of_package
from veripost_cli.output import BAD, DIM, GOOD, STRONG, error_document, moment, plain, size
from veripost_cli.session import Session, command
from veripost_client import ClientError, PackageFilter

_STATUSES = ["pending", "validating", "storing", "parsing", "ready", "error", "deleting"]
_SORTS = ["-created", "created", "name", "-name", "updated", "-updated"]


@click.command("list")
@click.option("--status", type=click.Choice(_STATUSES))
@click.option("--platform", help="What they are for.")
@click.option("--machine", help="Machine type, in any case.")
@click.option("--controller", help="Controller type, in any case.")
@click.option("--extension", help="Those with such a file: .KIN.")
@click.option("--name", help="How their names begin, in any case.")
@click.option("--sha256", metavar="HEX", help="SHA-256 of the archive.")
@click.option("--since", "created_since", type=Moment(), help="Created then or later: 2026-01-31, or 7d.")
@click.option("--until", "created_until", type=Moment(), help="Created earlier.")
@click.option(
    "--sort", type=click.Choice(_SORTS), help="Order; a minus means downwards.  [default: -created]"
)
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="At most so many.")
@click.option("--all", "everything", is_flag=True, help="No limit.")
@command
def list_command(session: Session, *, limit: int, everything: bool, **chosen: Any) -> Exit:
    """List packages, newest first; those that match every option that is given."""
    which = PackageFilter(**chosen)  # as click has checked them
    shown = session.client.packages(which, most=None if everything else limit)
    if session.output.as_json:
        for package in shown:
            session.output.record(package)
        return Exit.OK
    session.output.table(
        ("id", "name", "status", "machine", "controller", "files", "size", "created"),
        (
            (
                str(package.id),
                package.name,
                package.status,
                package.machine_type or "",
                package.controller_type or "",
                str(package.file_count),
                size(package.size_bytes),
                moment(package.created_at),
            )
            for package in shown
        ),
    )
    return Exit.OK


@click.command("show")
@click.argument("package_id", type=click.UUID, metavar="ID")
@command
def show_command(session: Session, *, package_id: UUID) -> Exit:
    """Show everything that is recorded of a package."""
    client, output = session.client, session.output
    package = client.package(package_id)
    # The first of each come with the package; what is beyond costs more requests.
    files = package.files if len(package.files) >= package.file_count else list(client.files(package_id))
    problems = package.problems
    if len(problems) < package.problem_count:
        problems = list(client.problems(package_id))
    output.record({**plain(package), "files": files, "problems": problems})
    _heading(session, package)
    if files:
        output.line("")
        output.table(
            ("file", "size", "SHA-256"),
            ((file.filename, size(file.size_bytes), file.content_hash) for file in files),
        )
    if package.runs:
        output.line("")
        output.table(
            ("job", "trigger", "status", "attempt", "started", "finished", "error"),
            (
                (
                    str(run.id),
                    run.trigger,
                    run.status,
                    str(run.attempt),
                    moment(run.started_at),
                    moment(run.finished_at),
                    run.error_code or "",
                )
                for run in package.runs
            ),
        )
    output.problems(problems)
    return Exit.OK


def _heading(session: Session, package: PackageDetail) -> None:
    output = session.output
    style = {"ready": GOOD, "error": BAD}.get(package.status, "")
    output.line(f"{package.name}  {package.status}", f"{STRONG} {style}".strip())
    if package.error_message:
        output.line(package.error_message, BAD)
    if package.error_detail:
        output.line(package.error_detail, DIM)
    facts = (
        ("id", str(package.id)),
        ("platform", package.platform),
        ("machine", package.machine_type),
        ("controller", package.controller_type),
        ("sections", None if package.section_count is None else str(package.section_count)),
        ("size", size(package.size_bytes)),
        ("SHA-256", package.content_hash),
        ("duplicate of", package.duplicate_of and str(package.duplicate_of)),
        ("created", moment(package.created_at)),
        ("ready", moment(package.ready_at)),
    )
    for label, value in facts:
        if value:
            output.line(f"  {label:<13}{value}")


@click.command("wait")
@click.argument("package_ids", nargs=-1, required=True, type=click.UUID, metavar="ID...")
@click.option("--timeout", default=600.0, show_default=True, help="Seconds to wait.")
@command
def wait_command(session: Session, *, package_ids: tuple[UUID, ...], timeout: float) -> Exit:
    """Wait until packages are ready, or refused (exit status 1)."""
    worst = Exit.OK
    for package_id in package_ids:
        worst = max(worst, _await(session, package_id, timeout))
    return worst


def _await(session: Session, package_id: UUID, seconds: float, *, job_id: UUID | None = None) -> Exit:
    with session.bars() as bars:
        bar = bars.add(str(package_id))
        status = session.client.wait(package_id, seconds=seconds, job_id=job_id, on_change=bar.follow)
    session.output.record(status)
    return _tell(session, status)


def _tell(session: Session, status: StatusView) -> Exit:
    if status.status == "ready":
        session.output.line(f"✓ {status.package_id}  ready, {status.file_count} files", GOOD)
        return Exit.OK
    session.output.line(f"✗ {status.package_id}  {status.error_message}", BAD)
    session.output.problems(status.problems)
    return exit_of_package(status.error_code)


@click.command("replay")
@click.argument("package_id", type=click.UUID, metavar="ID")
@click.option("--wait", is_flag=True, help="Wait for the verdict.")
@click.option("--timeout", default=600.0, show_default=True, help="Seconds to wait for it.")
@command
def replay_command(session: Session, *, package_id: UUID, wait: bool, timeout: float) -> Exit:
    """Process the original of a package again, from the beginning."""
    started = session.client.replay(package_id)
    if wait:
        return _await(session, package_id, timeout, job_id=started.job_id)
    session.output.record(started)
    session.output.line(f"✓ {package_id}  job {started.job_id}")
    return Exit.OK


@click.command("rm")
@click.argument("package_ids", nargs=-1, required=True, type=click.UUID, metavar="ID...")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.option("--wait", is_flag=True, help="Wait for workers, and until nothing is left.")
@click.option("--timeout", default=600.0, show_default=True, help="Seconds to wait, with --wait.")
@command
def rm_command(
    session: Session, *, package_ids: tuple[UUID, ...], yes: bool, wait: bool, timeout: float
) -> Exit:
    """Delete packages with everything that belongs to them. What is not there counts as deleted."""
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("Nobody is there to ask: --yes says that it is meant.")
        count = f"{len(package_ids)} packages" if len(package_ids) > 1 else str(package_ids[0])
        if not click.confirm(f"Delete {count} for good?", err=True):
            session.output.note("Nothing was deleted.")
            return Exit.REFUSED
    worst = Exit.OK
    for package_id in package_ids:
        try:
            complete = session.client.delete(package_id, seconds=timeout if wait else 0)
        except ClientError as error:
            worst = max(worst, exit_of(error))
            session.output.record(
                {"package_id": package_id, "deleted": False, "error": error_document(error)}
            )
            if not session.output.as_json:
                session.output.failed(error)
            continue
        if wait and not complete:
            worst = max(worst, Exit.UNFINISHED)
        session.output.record({"package_id": package_id, "deleted": complete, "error": None})
        session.output.line(
            f"✓ {package_id}  {'deleted' if complete else 'being deleted: the server does the rest'}"
        )
    return worst
