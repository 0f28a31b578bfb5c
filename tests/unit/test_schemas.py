"""What goes over the wire, beside what the tables know."""

from __future__ import annotations

import subprocess
import sys
from enum import StrEnum
from pathlib import Path
from typing import get_args

import pytest

from veripost import schemas
from veripost.models import Sort, Status


@pytest.mark.parametrize(("written", "known"), [(schemas._Sort, Sort), (schemas._Status, Status)])
def test_what_is_spelled_out_for_clients_is_what_the_tables_know(
    written: object, known: type[StrEnum]
) -> None:
    assert list(get_args(written)) == list(known)


def test_clients_need_nothing_but_pydantic() -> None:
    program = (
        "import sys; import veripost.schemas; print('sqlalchemy' in sys.modules, 'boto3' in sys.modules)"
    )
    folder = Path(schemas.__file__).parents[1]
    shown = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, check=True)
    assert shown.stdout.split() == [b"False", b"False"]
