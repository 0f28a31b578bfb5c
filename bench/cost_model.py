"""What 1,000 packages cost on AWS, by size: `python -m bench.cost_model`.

Measured: how long one package takes with S3 answering every PUT 25 ms later (as S3 does; the stand-in itself
answers at once), how much memory it needs, and how many requests it makes, all counted while it runs.
Assumed: the list prices below and how often a client asks. Not in it, because they do not depend on how
ingestion works: what is stored, what is downloaded, and the database.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, Final

from bench import results, workloads
from bench.processes import CACHE
from bench.results import median
from bench.rig import Rig, Run, Worker
from bench.workloads import ARCHIVES, Archive

# List prices in USD, us-east-1, first tier, without free tier, as published in 2025. Check before use:
# https://aws.amazon.com/lambda/pricing/ https://aws.amazon.com/s3/pricing/
# https://aws.amazon.com/sqs/pricing/ https://aws.amazon.com/api-gateway/pricing/
LAMBDA_GB_SECOND: Final = 0.0000133334  # arm64
LAMBDA_REQUEST: Final = 0.20 / 1e6
S3_PUT: Final = 0.005 / 1e3  # PUT, POST, LIST
S3_GET: Final = 0.0004 / 1e3
SQS_REQUEST: Final = 0.40 / 1e6
API_REQUEST: Final = 3.50 / 1e6  # REST API

PUT_DELAY_MS: Final = 25
INGEST_GB: Final = 1769 / 1024  # one CPU, which is what the measured processes have
API_GB, API_SECONDS, API_CALLS = 512 / 1024, 0.05, 4  # announce, and ask three times for the status
SQS_CALLS: Final = 3  # S3 sends, Lambda receives and deletes
PACKAGES: Final = 1_000
SIZES: Final = (
    "thirty-files",
    "tiny-1000",
    "large-10mb",
    "large-100mb",
    "medium-2000",
    "large-500mb",
    "large-2gb",
)
_PUTS: Final = ("put", "upload_part", "create_multipart_upload", "complete_multipart_upload", "list")


@dataclass(frozen=True, slots=True)
class Cost:
    """Dollars for 1,000 packages, by what they are paid for."""

    compute: float
    s3_puts: float
    s3_gets: float
    queue: float
    api: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.compute + self.s3_puts + self.s3_gets + self.queue + self.api


def cost(seconds: float, gigabytes: float, requests: dict[str, int]) -> Cost:
    """Return what 1,000 packages cost that take `seconds` each and make these requests to S3."""
    puts = sum(requests.get(name, 0) for name in _PUTS) + 1  # and the client's own upload
    gets = requests.get("get", 0) + requests.get("head", 0)
    api = API_CALLS * (API_REQUEST + LAMBDA_REQUEST + API_GB * API_SECONDS * LAMBDA_GB_SECOND)
    return Cost(
        compute=PACKAGES * (seconds * gigabytes * LAMBDA_GB_SECOND + LAMBDA_REQUEST),
        s3_puts=PACKAGES * puts * S3_PUT,
        s3_gets=PACKAGES * gets * S3_GET,
        queue=PACKAGES * SQS_CALLS * SQS_REQUEST,
        api=PACKAGES * api,
    )


def gigabytes_needed(peak_bytes: int) -> float:
    """Return the memory a function must have: the default, or what it needs and a quarter more."""
    return max(INGEST_GB, peak_bytes * 1.25 / (1 << 30))


def measure(runs: int) -> list[dict[str, Any]]:
    """Return one line per size: duration, memory, requests and cost, of ours and of the naive peer."""
    lines = []
    with Rig() as rig, rig.workers("engine", "naive", INGEST_MEMORY_MB="1769") as workers:
        rig.s3.configure(put_delay_ms=PUT_DELAY_MS)
        for name in SIZES:
            archive = ARCHIVES[name]
            line: dict[str, Any] = {
                "archive": name,
                "members": archive.count,
                "plain_bytes": archive.plain_bytes,
                "archive_bytes": workloads.ensure(archive, CACHE).stat().st_size,
            }
            for kind, worker in workers.items():
                line[kind] = _measured(worker, archive, runs)
            lines.append(line)
    return lines


def _measured(worker: Worker, archive: Archive, runs: int) -> dict[str, Any]:
    found: list[Run] = [worker.ingest(archive) for _ in range(runs)]
    seconds = median([run.seconds for run in found])
    gigabytes = gigabytes_needed(max(run.peak_bytes for run in found))
    dollars = cost(seconds, gigabytes, worker.requests)
    return {
        "seconds": seconds,
        "gigabytes": gigabytes,
        "requests": worker.requests,
        "dollars": {
            "compute": dollars.compute,
            "s3_puts": dollars.s3_puts,
            "s3_gets": dollars.s3_gets,
            "queue": dollars.queue,
            "api": dollars.api,
            "total": dollars.total,
        },
    }


def show(lines: list[dict[str, Any]]) -> None:
    """Print the table and, for every line, the arithmetic."""
    print(f"dollars for {PACKAGES:,} packages; every PUT takes {PUT_DELAY_MS} ms longer than the stand-in")
    for line in lines:
        plain, packed = line["plain_bytes"] / 1e6, line["archive_bytes"] / 1e6
        print(f"\n{line['members']:,} files, {plain:,.0f} MB in an archive of {packed:,.1f} MB")
        for kind in ("engine", "naive"):
            found = line[kind]
            dollars, requests = found["dollars"], found["requests"]
            puts = sum(requests.get(name, 0) for name in _PUTS) + 1
            print(
                f"  {kind:7} ${dollars['total']:9.4f} ="
                f" {found['seconds']:.3f} s × {found['gigabytes']:.2f} GB"
                f" × ${LAMBDA_GB_SECOND * PACKAGES:.6f} (${dollars['compute']:.4f})"
                f" + {puts:,} PUTs × ${S3_PUT * PACKAGES:.3f} (${dollars['s3_puts']:.4f})"
                f" + {requests.get('get', 0)} GETs (${dollars['s3_gets']:.4f})"
                f" + queue ${dollars['queue']:.4f} + API ${dollars['api']:.4f}"
            )
        compute, total = (
            line["naive"]["dollars"][what] / line["engine"]["dollars"][what] for what in ("compute", "total")
        )
        print(f"  the naive peer pays {compute:.1f} × as much for compute, {total:.1f} × in all")


def main() -> int:
    """Measure and print."""
    arguments = results.arguments("what 1,000 packages cost, by size", runs=3).parse_args()
    lines = measure(arguments.runs)
    print(results.machine())
    show(lines)
    if arguments.save:
        results.save("cost_model", {"runs": arguments.runs, "put_delay_ms": PUT_DELAY_MS, "lines": lines})
    return 0


if __name__ == "__main__":
    sys.exit(main())
