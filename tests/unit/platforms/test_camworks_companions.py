"""`.KIN`, `.PINF` and `.LNG`: one row a fact."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from localcloud import samples
from veripost.platforms import camworks_companions
from veripost.platforms.camworks import parse
from veripost.platforms.camworks_companions import (
    Entry,
    KinematicValue,
    Message,
    parse_information,
    parse_kinematics,
    parse_language,
)


@pytest.mark.parametrize(
    ("text", "look", "expected"),
    [
        ("1 * axis", lambda k: k.values, (KinematicValue("1", 1.0, "axis", 1),)),
        ("-154.2491*Z", lambda k: k.values, (KinematicValue("-154.2491", -154.2491, "Z", 1),)),
        (".5 * a * b", lambda k: k.values, (KinematicValue(".5", 0.5, "a * b", 1),)),
        ("ABC * name", lambda k: k.values, (KinematicValue("ABC", None, "name", 1),)),
        ("1e5 * no number\nnan*\n١*", lambda k: [v.number for v in k.values], [None, None, None]),
        ("12", lambda k: k.values, (KinematicValue("12", 12.0, "", 1),)),
        ("* only words\n\n3 * x", lambda k: [v.line for v in k.values], [3]),
        ("0*\r\n0*", lambda k: (k.axis_type, k.coordinates), (0, "part")),
        ("5 *\n1 *", lambda k: (k.axis_type, k.coordinates), (5, "machine")),
        ("6 *\n2 *", lambda k: (k.axis_type, k.coordinates), (None, None)),
        ("1.5 *\nx *", lambda k: (k.axis_type, k.coordinates), (None, None)),
        ("", lambda k: (k.lines, k.axis_type, k.coordinates), (0, None, None)),
        ("1 * a\n" * 22, lambda k: (k.lines, len(k.values)), (22, 22)),
    ],
)
def test_kinematics(text: str, look: Callable[[Any], Any], expected: Any) -> None:
    assert look(parse_kinematics([text.encode("utf-8")])) == expected


@pytest.mark.parametrize(
    ("text", "look", "expected"),
    [
        ("PostName = MY POST", lambda i: i.post_name, "MY POST"),
        ("postname=MY", lambda i: i.post_name, "MY"),
        ("PostExtension = .nc", lambda i: i.post_extension, ".nc"),
        ("/////\nA = b = c", lambda i: i.entries, (Entry("A", "b = c", 2),)),
        ("///// A = 1 /////\nnoise\n= 1\n", lambda i: i.entries, ()),
        ("ShortInfo = a.rtf\nLongInfo = b.rtf", lambda i: i.notes, ("a.rtf", "b.rtf")),
        ("", lambda i: (i.post_name, i.post_extension, i.notes), (None, None, ())),
    ],
)
def test_information(text: str, look: Callable[[Any], Any], expected: Any) -> None:
    assert look(parse_information([text.encode()])) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{'Tool number':<70}:0012:\r\n", (Message(12, "Tool number", 1),)),
        (f"{'Tool: number':<70}:0012", (Message(12, "Tool: number", 1),)),
        ("short:1:", (Message(1, "short", 1),)),
        (":0001:", (Message(1, "", 1),)),
        ("no number\nnor: here\n:x:\n::\n:\n\nlast:2:", (Message(2, "last", 7),)),
    ],
)
def test_language(text: str, expected: tuple[Message, ...]) -> None:
    assert parse_language([text.encode()]).messages == expected


def test_our_samples_are_read() -> None:
    files = samples.post_processor("MILL", sections=40)
    kinematics = parse_kinematics([files["MILL.KIN"]])
    information = parse_information([files["MILL.PINF"]])
    attributes = parse([files["MILL.ATR"]])

    assert (kinematics.lines, kinematics.axis_type, kinematics.coordinates) == (22, 0, "part")
    assert (information.post_name, information.post_extension) == ("MILL", ".nc")
    assert len(parse_language([files["MILL.LNG"]]).messages) == 40
    assert [(entry.name, entry.id) for entry in attributes.attributes] == [
        ("COOLANT", "1001"),
        ("WORK OFFSET", "1002"),
        ("SPINDLE RANGE", "1003"),
    ]
    assert attributes.warnings == ()


def test_rows_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camworks_companions, "MOST_ROWS", 3)
    assert len(parse_kinematics([b"1*\n" * 9]).values) == 3
    assert len(parse_information([b"A=1\n" * 9]).entries) == 3
    assert len(parse_language([b"A:1:\n" * 9]).messages) == 3
    assert parse_language([b"A:1:\n" * 9]).lines == 9
