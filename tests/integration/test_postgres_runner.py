"""Our Postgres runner: starts, restarts with its data, and leaves nothing behind, however its owner ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pg8000.dbapi
import pytest

from localcloud.postgres import Address, PostgresError, start_postgres
from localcloud.processes import ProcessId

ROOT = Path(__file__).resolve().parents[2]

OWNER = """
import sys
from pathlib import Path
from localcloud.postgres import start_postgres
with start_postgres(Path(sys.argv[1]), fsync=False) as server:
    print(server.process.pid, flush=True)
    sys.stdin.read()
"""


def run(address: Address, statement: str) -> Any:
    connection = pg8000.dbapi.connect(
        host=address.host,
        port=address.port,
        user=address.user,
        password=address.password,
        database=address.database,
    )
    with closing(connection):
        cursor = connection.cursor()
        cursor.execute(statement)
        rows = cursor.fetchall() if cursor.description else None
        connection.commit()
    return rows


def test_a_restart_keeps_port_and_data_and_the_end_leaves_neither_process_nor_data(tmp_path: Path) -> None:
    with start_postgres(tmp_path, fsync=False) as server:
        address, process = server.address, server.process
        run(address, "CREATE TABLE kept (value int)")
        run(address, "INSERT INTO kept VALUES (42)")
        server.restart()
        assert server.process != process
        assert server.address == address
        assert [list(row) for row in run(address, "SELECT value FROM kept")] == [[42]]
        process = server.process
    assert not process.is_running()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["postgres.log"]


def test_the_password_is_asked_for(tmp_path: Path) -> None:
    with start_postgres(tmp_path, fsync=False) as server:
        stranger = Address("127.0.0.1", server.address.port, "postgres", "guess", "postgres")
        with pytest.raises(pg8000.dbapi.DatabaseError, match="28P01"):
            run(stranger, "SELECT 1")


def test_it_has_the_vector_extension_and_safe_defaults(tmp_path: Path) -> None:
    with start_postgres(tmp_path) as server:
        run(server.address, "CREATE EXTENSION vector")
        assert list(run(server.address, "SHOW fsync")[0]) == ["on"]
        assert list(run(server.address, "SHOW listen_addresses")[0]) == ["127.0.0.1"]


def test_two_servers_stand_side_by_side(tmp_path: Path) -> None:
    with (
        start_postgres(tmp_path / "one", fsync=False) as one,
        start_postgres(tmp_path / "two", fsync=False) as two,
    ):
        assert one.address.port != two.address.port
        run(one.address, "CREATE TABLE only_in_one (value int)")
        assert list(run(two.address, "SELECT to_regclass('only_in_one')")[0]) == [None]


def test_a_port_in_use_is_an_error_that_says_so(tmp_path: Path) -> None:
    with start_postgres(tmp_path / "one", fsync=False) as one:
        with pytest.raises(PostgresError, match="Address already in use"):
            start_postgres(tmp_path / "two", port=one.address.port, fsync=False)
        assert run(one.address, "SELECT 1")


def parent_of(process: ProcessId) -> ProcessId:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return ProcessId.of(int(status.partition("PPid:")[2].split()[0]))


def wait_until_gone(folder: Path) -> None:
    deadline = time.monotonic() + 10
    while folder.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


# Only Linux tells a process that its parent died: docs/local-cloud.md.
@pytest.mark.parametrize("victim", ["owner", "leash"] if sys.platform == "linux" else ["owner"])
def test_the_server_dies_with_its_owner_and_with_its_leash(tmp_path: Path, victim: str) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with owner:  # whose end closes its stdin, which ends it if it still lives
        assert owner.stdout is not None
        server = ProcessId.of(int(owner.stdout.readline()))
        os.kill(owner.pid if victim == "owner" else parent_of(server).pid, signal.SIGKILL)
        assert server.wait(10)
    wait_until_gone(tmp_path / "postgres" / "data")
