"""Processes are recognised by more than their number, and end with their leash."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from localcloud.processes import PORTS, Leashed, ProcessId, free_port

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
time.sleep(600)
"""


def test_a_process_is_known_while_it_lives_and_not_after() -> None:
    with subprocess.Popen(SLEEP) as child:
        process = ProcessId.of(child.pid)
        assert process.is_running()
        assert not process.wait(0.05)
        child.kill()
        # Not waited for yet, so it is a zombie: that is as dead as it gets.
        assert process.wait(5)
    assert not process.is_running()
    with pytest.raises(ProcessLookupError):
        ProcessId.of(child.pid)


def test_another_process_with_the_same_number_is_left_alone() -> None:
    with subprocess.Popen(SLEEP) as child:
        recycled = replace(ProcessId.of(child.pid), started="long ago")
        recycled.stop(grace=0.1)
        assert child.poll() is None
        ProcessId.of(child.pid).stop(grace=5)
        assert child.wait() == -signal.SIGTERM


def test_a_free_port_is_free_and_not_one_for_outgoing_connections() -> None:
    port = free_port()
    assert port in PORTS
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", port))


def leash(tmp_path: Path, command: list[str], grace: float) -> Leashed:
    with (tmp_path / "log").open("wb") as log:
        return Leashed(command, log=log, env=dict(os.environ), grace=grace)


def test_letting_go_of_the_leash_ends_the_program(tmp_path: Path) -> None:
    program = leash(tmp_path, SLEEP, grace=10)
    assert program.exit_code() is None
    program.stop()
    assert program.exit_code() is not None


def test_a_program_that_will_not_end_is_killed(tmp_path: Path) -> None:
    program = leash(tmp_path, [sys.executable, "-c", STUBBORN], grace=0.2)
    while b"deaf" not in (tmp_path / "log").read_bytes():
        assert program.exit_code() is None
    program.stop()
    assert program.exit_code() is not None


def test_the_leash_ends_with_its_program(tmp_path: Path) -> None:
    program = leash(tmp_path, [sys.executable, "-c", "raise SystemExit(7)"], grace=1)
    assert ProcessId.of(program.pid).wait(60)
    # Its first thread can be gone a moment before its last, and only then is there an exit code.
    deadline = time.monotonic() + 60
    while program.exit_code() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert program.exit_code() == 7
    program.stop()
