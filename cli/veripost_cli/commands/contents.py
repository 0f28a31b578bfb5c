"""`veripost search` and `diff`: what is in packages."""

from __future__ import annotations

from uuid import UUID

import click

from veripost.schemas import Changes, Difference
from veripost_cli.exits import Exit
from veripost_cli.output import BAD, DIM, GOOD, plain
from veripost_cli.session import Session, command

_SIGNS = {"added": ("+", GOOD), "removed": ("-", BAD), "changed": ("~", ""), "renamed": ("→", "")}


@click.command("search")
@click.argument("words", nargs=-1, required=True, metavar="WORD...")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="At most so many.")
@command
def search_command(session: Session, *, words: tuple[str, ...], limit: int) -> Exit:
    """Find packages, machines, controllers, sections and attributes by their names, the best first."""
    hits = session.client.search(" ".join(words), most=limit)
    if session.output.as_json:
        for hit in hits:
            session.output.record(hit)
        return Exit.OK
    session.output.table(
        ("package", "name", "found", "as", "file"),
        (
            (str(hit.package_id), hit.package_name, hit.name, hit.kind or hit.subject, hit.filename or "")
            for hit in hits
        ),
    )
    return Exit.OK


@click.command("diff")
@click.argument("package_id", type=click.UUID, metavar="ID")
@click.argument("other_id", type=click.UUID, metavar="OTHER_ID")
@click.option("--section", help="Show the lines that differ in sections of this name.")
@command
def diff_command(session: Session, *, package_id: UUID, other_id: UUID, section: str | None) -> Exit:
    """Tell which files, sections and attributes differ; exit status 1 if any do, as diff has it."""
    output, differ = session.output, False
    for number, page in enumerate(session.client.differences(package_id, other_id, section=section)):
        if number == 0:
            counts = {"files": page.files, "sections": page.sections, "attributes": page.attributes}
            differ = any(_changed(changes) for changes in counts.values())
            output.record({name: plain(changes) for name, changes in counts.items()})
            for name, changes in counts.items():
                output.line(f"{name}: {_summary(changes)}", DIM)
        for difference in page.differences:
            output.record(difference)
            _show(session, difference)
    return Exit.REFUSED if differ else Exit.OK


def _changed(changes: Changes) -> int:
    return changes.added + changes.removed + changes.changed + changes.renamed


def _summary(changes: Changes) -> str:
    parts = [
        f"{count} {name}"
        for name in ("added", "removed", "changed", "renamed")
        if (count := getattr(changes, name))
    ]
    return ", ".join([*parts, f"{changes.same} the same"])


def _show(session: Session, difference: Difference) -> None:
    sign, style = _SIGNS.get(difference.change, ("?", ""))
    where = difference.filename or difference.other_filename
    place = f"  in {where}" if where and where != difference.name else ""
    session.output.line(f"{sign} {difference.subject} {difference.name}{place}", style)
    if difference.diff:
        for line in difference.diff.splitlines():
            style = {"+": GOOD, "-": BAD, "@": DIM}.get(line[:1], "")
            session.output.line(f"    {line}", style)
        if difference.truncated:
            session.output.line("    … and more", DIM)
