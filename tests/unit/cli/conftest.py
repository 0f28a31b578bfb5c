"""A server, a client that does not really wait, and a home of its own for what the command stores."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.cli.stand_in import KEY, StandIn, running
from veripost_client import Client


@pytest.fixture
def server() -> Iterator[StandIn]:
    with running() as stand_in:
        yield stand_in


@pytest.fixture
def waits() -> list[float]:
    """The pauses that the client made, in seconds."""
    return []


@pytest.fixture
def client(server: StandIn, waits: list[float], tmp_path: Path) -> Iterator[Client]:
    with Client(server.url, KEY, journal=tmp_path / "journal", sleep=waits.append) as client:
        yield client
