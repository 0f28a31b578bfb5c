"""A function imports only what its routes need: each library here costs every cold start of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# What only some requests need is imported when they come; what only other functions need, never.
RARE = {
    "boto3",
    "botocore.session",
    "botocore.client",
    "alembic",
    "sqlalchemy.orm",
    "aws_xray_sdk",
    "python_multipart",
}
FORBIDDEN = {
    "status": RARE | {"isal", "veripost.archive", "veripost.ingestion", "veripost.uploads"},
    "upload": RARE | {"veripost.ingestion", "veripost.catalog"},
    "ingest": RARE
    | {
        "pydantic",
        "aws_lambda_powertools.event_handler",
        "veripost.api",
        "veripost.schemas",
        "veripost.catalog",
        "veripost.uploads",
    },
}


@pytest.mark.parametrize("function", FORBIDDEN)
def test_what_a_function_must_not_import(function: str) -> None:
    folders = [str(ROOT / "functions" / function), str(ROOT / "layers" / "common")]
    program = (
        f"import sys, json; sys.path[:0] = {folders}; import app; print(json.dumps(sorted(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, timeout=60)
    imported = set(json.loads(answer.stdout))
    assert {"veripost.db", "veripost.storage"} <= imported
    assert sorted(FORBIDDEN[function] & imported) == []


def test_importing_a_function_reads_no_setting() -> None:
    """They are read at the first request: a snapshot must not freeze them."""
    for function in FORBIDDEN:
        folders = [str(ROOT / "functions" / function), str(ROOT / "layers" / "common")]
        program = (
            f"import sys; sys.path[:0] = {folders}; import app; from veripost import settings;"
            "assert settings.get_settings.cache_info().currsize == 0"
        )
        subprocess.run(
            [sys.executable, "-c", program], check=True, timeout=60, env={"DATABASE_PORT": "wrong"}
        )
