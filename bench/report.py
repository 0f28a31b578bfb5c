"""Writes the figures of `bench/results.json` into docs/performance.md and draws docs/performance.svg.

Only the part of the page between two markers is ours; the prose around it is written by people.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any, Final

from bench import engine, results
from bench.chart import Series, line_chart
from bench.cold_start import BAR as COLD_BAR
from bench.cold_start import BARRED
from bench.handlers import STATEMENTS_BAR
from bench.listing import BAR as DEPTH_BAR
from bench.listing import ratio as depth_ratio
from bench.local_cloud import BAR as LOCAL_BAR
from bench.local_cloud import TITLES
from bench.object_writers import WRITERS
from bench.processes import ROOT
from bench.rows import BAR_MICROSECONDS
from bench.workloads import ARCHIVES

PAGE: Final = ROOT / "docs" / "performance.md"
CHART: Final = ROOT / "docs" / "performance.svg"
BEGIN: Final = "<!-- begin: written by python -m bench.report -->"
END: Final = "<!-- end -->"
_EVERYTHING: Final = "every library of the layer"
# Packages of one shape, so that size is all that differs; the others are dots.
_SHAPE: Final = ("thirty-files", "large-10mb", "large-100mb", "large-500mb", "large-2gb")


def table(header: str, rows: list[list[str]]) -> list[str]:
    """Return a Markdown table; `header` separates its columns by `|`."""
    columns = header.split("|")
    return [
        f"| {' | '.join(columns)} |",
        "|---" * len(columns) + "|",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def measured(section: dict[str, Any]) -> str:
    """Say where and when a section's figures come from."""
    return f"{section['measured']}, {section['machine']}."


def workloads(section: dict[str, Any]) -> Iterator[str]:
    """Tell what the engine does beside its peers."""
    ceiling = section["ceiling"]
    yield "### Ours beside the peers"
    yield ""
    yield (
        f"`python -m bench.engine`, {measured(section)} Medians; the programs take turns."
        f" The S3 stand-in alone: {ceiling['puts_per_second_1kb']:,.0f} PUT/s of 1 KB,"
        f" {ceiling['put_mb_per_second_8mb']:,.0f} MB/s in, {ceiling['get_mb_per_second']:,.0f} MB/s out."
        " In brackets: what would be left if the peer's database answered in no time and ours as it does."
    )
    yield ""
    rows = []
    for name in engine.WORKLOADS:
        if name not in section["workloads"]:
            continue
        found = section["workloads"][name]
        ours = found[engine.OURS]
        row = [found["title"], f"{ours['seconds']:.2f} s"]
        row += [_peer(found, kind) for kind in ("naive", "classic")]
        raw = found["raw_cpu_seconds"]
        row.append(f"{raw:.2f} s, {raw / ours['cpu_seconds']:.0%}")
        row.append(f"{ours['cpu_seconds'] / found['members'] * 1e6:,.0f} µs")
        row.append(f"+{ours['memory_mib']:.0f}")
        peers = [kind for kind in ("naive", "classic") if kind in found["ratios"]]
        row.append(", ".join(f"+{found[kind]['memory_mib']:,.0f}" for kind in peers))
        rows.append([*row, str(found["runs"])])
    yield from table(
        "workload|ours|naive: ratio|classic: ratio|raw limit, our share per CPU|CPU a member|MiB|theirs|runs",
        rows,
    )


def _peer(found: dict[str, Any], kind: str) -> str:
    if kind not in found["ratios"]:
        return ""
    free = found["ratios_with_free_database"][kind]
    return f"{found[kind]['seconds']:.2f} s: **{found['ratios'][kind]:.1f} ×** ({free:.1f} ×)"


def growth(section: dict[str, Any]) -> Iterator[str]:
    """Tell how time grows."""
    yield "### Time grows linearly"
    yield ""
    rows = []
    for what, found in section["growth"].items():
        points = "; ".join(f"{amount:,}: {seconds:.2f} s" for amount, seconds in found["points"])
        per = f"{found['marginal'] * 1e6:,.0f} µs a member" if what == "members" else (
            f"{found['marginal'] * 1e12:,.0f} µs a MB"
        )  # fmt: skip
        rows.append([what, points, f"{found['slope']:.2f}", per])
    yield from table("against|measured|exponent (1 is linear)|slope", rows)


def bars(everything: dict[str, Any]) -> Iterator[str]:
    """List every bar and whether it is met."""
    rows: list[list[str]] = []
    measured_ones = everything.get("engine", {}).get("workloads", {})
    for found in [measured_ones[name] for name in engine.WORKLOADS if name in measured_ones]:
        rows += [[found["title"], text, _verdict(met)] for text, met in engine.verdicts(found)]
    if "rows" in everything:
        found = everything["rows"]
        each = next(iter(_ordered(found["seconds"], "ours").values())) / found["rows"] * 1e6
        text = f"{each:.1f} µs a row (bar {BAR_MICROSECONDS})"
        rows.append([f"{found['rows']:,} file rows", text, _verdict(each <= BAR_MICROSECONDS)])
    if "handlers" in everything:
        statements = everything["handlers"]["requests"]["status"]["statements"]
        text = f"{statements:.0f} (bar {STATEMENTS_BAR})"
        rows.append(["statements of a status request", text, _verdict(statements <= STATEMENTS_BAR)])
    if "listing" in everything:
        found = everything["listing"]
        worst = max(depth_ratio(seconds) for seconds in found["lists"].values())
        text = f"{worst:.2f} × page 1 (bar {DEPTH_BAR} ×)"
        rows.append([f"page {found['depth']} of the list of packages", text, _verdict(worst <= DEPTH_BAR)])
    if "cold_start" in everything:
        seconds = everything["cold_start"]["seconds"]
        for name in BARRED:
            share = seconds[name] / seconds[_EVERYTHING]
            text = f"{share:.0%} of importing everything (bar {COLD_BAR:.0%})"
            rows.append([f"cold imports of {name}", text, _verdict(share <= COLD_BAR)])
    if "local_cloud" in everything:
        ratio = everything["local_cloud"]["ratio"]
        text = f"{ratio:.1f} × the cloud's own round trip (bar {LOCAL_BAR:.0f} ×)"
        rows.append(["S3 PUT → ready on the local cloud", text, _verdict(ratio <= LOCAL_BAR)])
    yield "### Bars"
    yield ""
    yield from table("what|measured|", rows)


def _verdict(met: bool) -> str:
    return "met" if met else "**missed**"


def _ordered(values: dict[str, float], first: str) -> dict[str, float]:
    return dict(sorted(values.items(), key=lambda item: (not item[0].startswith(first), item[1])))


def file_rows(section: dict[str, Any]) -> Iterator[str]:
    """Tell what a file row costs."""
    yield f"### {section['rows']:,} file rows"
    yield ""
    yield f"`python -m bench.rows`, {measured(section)} Median of {section['runs']}."
    yield ""
    seconds = _ordered(section["seconds"], "ours")
    ours = next(iter(seconds.values()))
    rows = [
        [title, f"{taken / section['rows'] * 1e6:,.1f} µs", f"{taken / ours:.1f} ×"]
        for title, taken in seconds.items()
    ]
    yield from table("way|a row|of ours", rows)


def handlers(section: dict[str, Any]) -> Iterator[str]:
    """Tell what a warm request costs besides the network."""
    yield "### A warm request"
    yield ""
    yield (
        f"`python -m bench.handlers`, {measured(section)} The status function's handler in this process, on"
        f" {section['packages']:,} packages; {section['runs']:,} requests of each kind, the key remembered."
    )
    yield ""
    rows = [
        [
            title,
            f"{found['median'] * 1e3:.2f} ms",
            f"{found['p99'] * 1e3:.2f} ms",
            f"{found['statements']:.0f}",
            f"{found['round_trips']:.0f}",
        ]
        for title, found in section["requests"].items()
    ]
    yield from table("request|median|p99|statements|round trips", rows)


def listing(section: dict[str, Any]) -> Iterator[str]:
    """Tell what a page of the list costs, near and far."""
    yield f"### A page of {section['packages']:,} packages"
    yield ""
    yield (
        f"`python -m bench.listing`, {measured(section)} {section['page']} packages a page, median of"
        f" {section['runs']}. In brackets: the server's share."
    )
    yield ""
    rows = []
    for title, seconds in sorted(section["lists"].items()):
        near, far = (
            f"{seconds[name] * 1e3:.1f} ms ({seconds[f'server_{name}'] * 1e3:.2f})"
            for name in ("first", "far")
        )
        offset = f"({seconds['server_offset'] * 1e3:.1f} ms)"
        rows.append([title, near, far, f"{depth_ratio(seconds):.2f} ×", offset])
    yield from table(f"list|page 1|page {section['depth']}|ratio|the same by OFFSET", rows)


def cold_start(section: dict[str, Any]) -> Iterator[str]:
    """Tell what imports cost."""
    yield "### Cold imports"
    yield ""
    yield f"`python -m bench.cold_start`, {measured(section)} Median of {section['runs']}."
    yield ""
    everything = section["seconds"][_EVERYTHING]
    rows = [
        [
            title,
            f"{seconds * 1e3:,.0f} ms",
            f"{seconds / everything:.0%}",
            f"{section['modules'][title]:,}",
            f"{section['seconds_without_pyc'][title] / seconds:.1f} ×",
        ]
        for title, seconds in sorted(section["seconds"].items(), key=lambda item: -item[1])
    ]
    yield from table("function|imports|of everything|modules|without .pyc", rows)


def local_cloud(section: dict[str, Any]) -> Iterator[str]:
    """Tell how long a package takes on the local cloud."""
    yield "### From S3 PUT to ready on the warm local cloud"
    yield ""
    yield (
        f"`python -m bench.local_cloud`, {measured(section)} {section['files']} files in an archive of"
        f" {section['archive_bytes']:,} bytes, {section['runs']} runs."
    )
    yield ""
    rows = [
        [title, f"{section['median'][name] * 1e3:.0f} ms", f"{section['p99'][name] * 1e3:.0f} ms"]
        for name, title in TITLES.items()
    ]
    yield from table("what|median|p99", rows)
    yield ""
    yield (
        f"Ours is {section['ratio']:.1f} × the cloud's own round trip (p99 {section['ratio_p99']:.1f} ×), and"
        f" {section['ratio_with_storage']:.1f} × that round trip and the S3 work together."
    )


def object_writers(section: dict[str, Any]) -> Iterator[str]:
    """Tell what one PUT costs."""
    yield "### One PUT"
    yield ""
    yield (
        f"`python -m bench.object_writers`, {measured(section)} µs of CPU (of wall time) per PUT, median of"
        f" {section['runs']}; [decision 4](decisions/0004-object-writer.md) argues from it."
    )
    yield ""
    rows = [
        [f"{size}, {threads} thread{'s' if threads > 1 else ''}"]
        for size in ("1 KB", "100 KB", "1 MB", "8 MB")
        for threads in (1, 16)
    ]
    for row in rows:
        found = section["table"][row[0]]
        row += [f"{found[title]['cpu_us']:,.0f} ({found[title]['wall_us']:,.0f})" for title in WRITERS]
    yield from table("|".join(["", *WRITERS]), rows)


def cost_model(section: dict[str, Any]) -> Iterator[str]:
    """Tell what packages cost, and draw it."""
    lines = section["lines"]
    yield "### Dollars for 1,000 packages"
    yield ""
    yield (
        f"`python -m bench.cost_model` prints the arithmetic and names the prices; {measured(section)}"
        f" Every PUT takes {section['put_delay_ms']} ms longer than the stand-in's own."
        " Cost = seconds × memory × price, and requests."
    )
    yield ""
    rows = []
    for line in lines:
        row = [f"{line['members']:,} files, {line['plain_bytes'] / 1e6:,.0f} MB"]
        for kind in ("engine", "naive"):
            found = line[kind]
            dollars = found["dollars"]
            requests = dollars["s3_puts"] + dollars["s3_gets"]
            other = dollars["queue"] + dollars["api"]
            row.append(
                f"{found['seconds']:.2f} s × {found['gigabytes']:.2f} GB: ${dollars['compute']:.3f}"
                f" + S3 ${requests:.3f} + queue and API ${other:.3f} = **${dollars['total']:.2f}**"
            )
        compute = line["naive"]["dollars"]["compute"] / line["engine"]["dollars"]["compute"]
        total = line["naive"]["dollars"]["total"] / line["engine"]["dollars"]["total"]
        rows.append([*row, f"{compute:.1f} ×", f"{total:.1f} ×"])
    yield from table("package|ours|naive|compute, naive : ours|in all", rows)
    yield ""
    yield "![Cost of 1,000 packages against their size](performance.svg)"
    CHART.write_text(draw(lines))


def memory_curve(section: dict[str, Any]) -> Iterator[str]:
    """Tell how duration and price depend on the function's memory."""
    yield "### Memory of the ingest function"
    yield ""
    yield (
        f"`python -m bench.memory_curve`, {measured(section)} The worker gets the CPU that Lambda gives for"
        " the memory. Seconds, and dollars of compute for 1,000 packages."
    )
    yield ""
    sizes = list(dict.fromkeys(line["archive"] for line in section["lines"]))
    found = {(line["memory_mb"], line["archive"]): line for line in section["lines"]}
    rows = [
        [
            f"{memory:,} MB",
            *(
                f"{found[memory, size]['seconds']:.2f} s, ${found[memory, size]['dollars']:.4f}"
                for size in sizes
            ),
        ]
        for memory in dict.fromkeys(line["memory_mb"] for line in section["lines"])
    ]
    titles = [f"{ARCHIVES[size].count:,} files, {ARCHIVES[size].plain_bytes / 1e6:,.0f} MB" for size in sizes]
    yield from table("|".join(["memory", *titles]), rows)


def _priced(line: dict[str, Any]) -> str:
    return f"{line['seconds']:.2f} s, ${line['dollars']:.4f}"


def draw(lines: list[dict[str, Any]]) -> str:
    """Return the chart of cost against size."""
    by_name = {line["archive"]: line for line in lines}

    def points(names: list[str], kind: str) -> list[tuple[float, float]]:
        return [(by_name[n]["plain_bytes"] / 1e6, by_name[n][kind]["dollars"]["compute"]) for n in names]

    shape = [name for name in _SHAPE if name in by_name]
    others = [name for name in by_name if name not in _SHAPE]
    return line_chart(
        "Compute for 1,000 packages against their size",
        "MB of files in one package",
        "US dollars",
        [
            Series("ours", points(shape, "engine")),
            Series("naive", points(shape, "naive")),
            Series("ours, small files", points(others, "engine"), joined=False),
            Series("naive, small files", points(others, "naive"), joined=False),
        ],
    )


SECTIONS: Final[dict[str, tuple[Callable[[dict[str, Any]], Iterator[str]], ...]]] = {
    "engine": (workloads, growth),
    "rows": (file_rows,),
    "handlers": (handlers,),
    "listing": (listing,),
    "cold_start": (cold_start,),
    "local_cloud": (local_cloud,),
    "object_writers": (object_writers,),
    "memory_curve": (memory_curve,),
    "cost_model": (cost_model,),
}


def main() -> int:
    """Rewrite our part of the page."""
    everything = results.load()
    lines = [*bars(everything), ""]
    for name, writers in SECTIONS.items():
        for write in writers:
            if name in everything:
                lines += [*write(everything[name]), ""]
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n" + "\n".join(lines) + END + after)
    print(f"wrote {PAGE.relative_to(ROOT)} and {CHART.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
