"""What we write in the grammar of real posts is read as what its writer knows of it."""

from __future__ import annotations

import pytest

from localcloud import samples
from veripost.platforms.camworks import SectionKind, parse


@pytest.mark.parametrize("size", samples.SIZES)
def test_a_source_of_a_real_size_is_read_as_it_was_written(size: str) -> None:
    lines, sections, operations = samples.SIZES[size]
    written = samples.source(lines=lines, sections=sections, operations=operations)
    read = parse([written.data])

    assert (read.lines, len(read.sections), len(read.operations)) == (lines, sections, operations)
    assert [
        (
            section.name,
            section.kind is SectionKind.CALCULATION,
            section.parameters,
            section.first_line,
            section.last_line,
            section.template_lines,
            section.calculation_lines,
            section.calls,
        )
        for section in read.sections
    ] == [
        (
            section.name,
            section.is_calculation,
            section.parameters,
            section.first_line,
            section.last_line,
            section.template_lines,
            section.calculation_lines,
            section.calls,
        )
        for section in written.sections
    ]
    assert tuple(operation.name for operation in read.operations) == written.operations
    assert read.as_dict() == {
        "lines": lines,
        "sections": sections,
        "calc": sum(section.is_calculation for section in written.sections),
        "template": sum(not section.is_calculation for section in written.sections),
        "operations": operations,
        "attributes": len(written.attributes),
        "machine": written.machine,
        "controller": written.controller,
        "system": written.system,
        "libraries": [written.library],
        "warnings": [],
    }
    assert 40 <= written.disabled_lines <= 50


@pytest.mark.parametrize("sections", [1, 4, 5, 20, 320])
def test_every_sample_package_has_a_source_of_that_many_sections(sections: int) -> None:
    files = samples.post_processor("MILL", sections=sections)
    read = parse([files["MILL.SRC"]])

    assert (read.section_count, read.warnings) == (sections, ())
    assert parse([files["MILL.LIB"]]).section_count == max(sections // 4, 1)
