"""Judges a folder of labelled archives: `python -m tests.corpus.run DIR`.

`DIR/INDEX.csv` names each file with what is expected of it (`accept` or `reject`), for refusals the tier
(`hard`: no correct reader may take it; `policy`: arguable), and its SHA-256. Fails when the folder or a file
is missing, when a `hard` archive is accepted or an `accept` one refused, and when a `policy` one is not
decided as `policy.csv`, our own table, says and argues.
"""

from __future__ import annotations

import csv
import hashlib
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from veripost.archive import BytesSource, Limits, inspect

POLICY = Path(__file__).with_name("policy.csv")


@dataclass(frozen=True)
class Verdict:
    """One archive: what was expected of it, what the gate found, and what is wrong with that (or None)."""

    label: str
    codes: tuple[str, ...]
    fault: str | None


def rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file with a header line."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def judge(folder: Path, row: dict[str, str], policy: dict[str, dict[str, str]]) -> Verdict:
    """Check one archive of the index."""
    label = row["tier"] or row["expected"]
    path = folder / row["file"]
    if not path.is_file():
        return Verdict(label, (), "the file is missing")
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != row["sha256"]:
        return Verdict(label, (), "the file is not the one that was labelled (SHA-256)")
    report = inspect(BytesSource(data), Limits())
    codes = tuple(sorted({problem.code.value for problem in report.problems}))
    return Verdict(label, codes, _fault(row, codes, policy.get(row["file"]), accepted=report.accepted))


def _fault(
    row: dict[str, str], codes: tuple[str, ...], decided: dict[str, str] | None, *, accepted: bool
) -> str | None:
    outcome = "accept" if accepted else "reject"
    if row["tier"] != "policy":
        return None if outcome == row["expected"] else f"expected {row['expected']}, the gate says {outcome}"
    if decided is None:
        return f"{POLICY.name} does not decide it"
    if outcome != decided["decision"]:
        return f"{POLICY.name} says {decided['decision']}, the gate says {outcome}"
    if decided["code"] and decided["code"] not in codes:
        return f"{POLICY.name} says {decided['code']}, the gate says {', '.join(codes)}"
    return None


def faults(folder: Path, counts: Counter[str]) -> Iterator[str]:
    """Yield what is wrong, one line each, counting the archives by label in `counts`."""
    index = folder / "INDEX.csv"
    if not index.is_file():
        yield f"{index} is missing"
        return
    policy = {row["file"]: row for row in rows(POLICY)}
    for row in rows(index):
        verdict = judge(folder, row, policy)
        counts[verdict.label] += 1
        if verdict.fault:
            yield f"{row['file']} ({verdict.label}): {verdict.fault}"
    if not counts:
        yield f"{index} names no archive"
    if not all(row["reason"].strip() for row in policy.values()):
        yield f"{POLICY.name}: a decision without its reason"


def main(arguments: list[str]) -> int:
    """Judge the folder that `arguments` names; the exit status is 0 only when all is as it should be."""
    if len(arguments) != 1:
        print("usage: python -m tests.corpus.run DIR", file=sys.stderr)
        return 2
    counts: Counter[str] = Counter()
    found = list(faults(Path(arguments[0]), counts))
    for line in found:
        print(line, file=sys.stderr)
    listed = ", ".join(f"{count} {label}" for label, count in sorted(counts.items())) or "none"
    print(f"{counts.total()} archives ({listed}): {len(found) or 'nothing'} wrong")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
