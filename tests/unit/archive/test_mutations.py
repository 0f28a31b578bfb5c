"""A short run of the fuzzer; `make fuzz` is the long one."""

from __future__ import annotations

import io
import zipfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.mutations import archives
from tests.fuzz.oracle import LIMITS, check
from tests.unit.archive.builder import FILE, Part, build
from tests.unit.archive.hazards import HAZARDS
from tests.unit.archive.test_honest import HONEST
from veripost.archive import BytesSource, inspect

QUICK = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@QUICK
@given(archives())
def test_no_bytes_raise_and_what_is_accepted_reads_alike_everywhere(data: bytes) -> None:
    check(data)


@QUICK
@given(st.binary(max_size=300))
def test_noise_is_refused(data: bytes) -> None:
    assert not check(data).accepted


PLAIN_NAMES = st.text("abcxyzÄé中-_ ", min_size=1, max_size=8).map(lambda text: f"{text}.src")


@QUICK
@given(
    st.dictionaries(PLAIN_NAMES, st.binary(max_size=3000), max_size=6),
    st.sampled_from([None, "32", "32s", "64", "64s"]),
    st.sampled_from([0, 8]),
    st.booleans(),
)
def test_every_archive_without_a_fault_is_accepted(
    files: dict[str, bytes], descriptor: str | None, method: int, zip64: bool
) -> None:
    parts = [
        Part(name, data, method, descriptor=descriptor, flags=0x800, attributes=FILE)
        for name, data in files.items()
        if not (descriptor and method == 0 and b"PK" in data)
    ]
    report = inspect(BytesSource(build(*parts, zip64=zip64)), LIMITS)
    clashes = {problem.code for problem in report.problems}

    assert clashes <= {"lookalike_name"}
    assert report.accepted == (not clashes)


@pytest.mark.parametrize(
    "data", [row.data for row in HAZARDS if len(row.data) < 100_000] + list(HONEST.values())
)
def test_the_fuzzers_oracle_holds_for_every_known_archive(data: bytes) -> None:
    check(data)


@QUICK
@given(st.dictionaries(PLAIN_NAMES, st.binary(max_size=3000), max_size=6), st.sampled_from([0, 8]))
def test_the_standard_librarys_archives_are_accepted(files: dict[str, bytes], method: int) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)

    report = inspect(BytesSource(buffer.getvalue()), LIMITS)

    assert {problem.code for problem in report.problems} <= {"lookalike_name"}
