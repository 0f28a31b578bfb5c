"""`veripost doctor`."""

from __future__ import annotations

import click

from veripost.schemas import DoctorFinding
from veripost_cli.exits import Exit
from veripost_cli.output import BAD, GOOD
from veripost_cli.session import Session, command


@click.command("doctor")
@click.option("--fix", is_flag=True, help="Repair what can be repaired without losing anything.")
@click.option("--deep", is_flag=True, help="Read every byte, too.")
@click.option("--timeout", default=900.0, show_default=True, help="Seconds to wait for the report.")
@command
def doctor_command(session: Session, *, fix: bool, deep: bool, timeout: float) -> Exit:
    """Compare what the server stores with what it has recorded, in both directions.

    The exit status is 1 if something is found that was not repaired.
    """
    with session.bars() as bars:
        bar = bars.add("examination")
        bar.state("waiting for the report")
        started = session.client.start_doctor(fix=fix, deep=deep)
        run = session.client.doctor(started.doctor_id, seconds=timeout)
    session.output.record(run)
    for finding in run.findings:
        session.output.line(_sentence(finding), "" if finding.fixed else BAD)
    if len(run.findings) < run.found:
        session.output.line(f"... and {run.found - len(run.findings)} more")
    if run.error:
        session.output.line(f"✗ The examination was given up: {run.error}", BAD)
        return Exit.UNAVAILABLE
    if not run.found:
        session.output.line("✓ Everything that is stored is recorded, and the other way round.", GOOD)
    return Exit.REFUSED if run.found > run.fixed else Exit.OK


def _sentence(finding: DoctorFinding) -> str:
    mark = "✓ repaired" if finding.fixed else "✗"
    return f"{mark} {finding.kind}: {finding.key}  {finding.detail}"
