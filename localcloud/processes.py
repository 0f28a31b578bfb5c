"""Processes of the local cloud: started on a leash, recognised by pid and start time, ended only if ours."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self

from localcloud import leash

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Below the range that systems hand to outgoing connections, so that a port found free stays free.
PORTS = range(20_000, 32_000)
POLL_SECONDS = 0.02


def free_port() -> int:
    """Find a port of 127.0.0.1 that nobody listens on."""
    for _ in range(200):
        port = random.choice(PORTS)  # noqa: S311 (nothing secret)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError(f"no free port between {PORTS.start} and {PORTS.stop}")


def start_time(pid: int) -> str | None:
    """When a process started, in the system's own notation; None where there is no such (living) process."""
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            # The second field is the program's name in parentheses and may hold anything.
            state, *fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return None if state in "ZX" else fields[18]
    listed = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout.split(maxsplit=1)
    return None if not listed or listed[0].startswith("Z") else listed[1].strip()


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process that cannot be mistaken for a later one with the same number."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> Self:
        """Identify a living process."""
        started = start_time(pid)
        if started is None:
            raise ProcessLookupError(f"no process {pid}")
        return cls(pid, started)

    def is_running(self) -> bool:
        """Whether this very process lives."""
        return start_time(self.pid) == self.started

    def send(self, number: signal.Signals) -> None:
        """Signal this very process, if it lives."""
        if self.is_running():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def wait(self, seconds: float) -> bool:
        """Wait for its end; whether it came in time."""
        deadline = time.monotonic() + seconds
        while self.is_running():
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_SECONDS)
        return True

    def stop(self, grace: float) -> None:
        """Ask it to end, then insist."""
        self.send(signal.SIGTERM)
        if not self.wait(grace):
            self.send(signal.SIGKILL)
            self.wait(grace)


class Leashed:
    """A program that cannot outlive this process (see leash.py)."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: IO[bytes],
        env: Mapping[str, str],
        cwd: Path | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        death_signal: signal.Signals = signal.SIGKILL,
        grace: float = 15,
        user: tuple[int, int] | None = None,
        discard: Path | None = None,
    ) -> None:
        options = ["--signal", stop_signal.name, "--death-signal", death_signal.name, "--grace", str(grace)]
        if user is not None:
            options += ["--uid", str(user[0]), "--gid", str(user[1])]
        if discard is not None:
            options += ["--discard", str(discard)]
        self._grace = grace
        self._leash = subprocess.Popen(
            [sys.executable, "-I", "-S", leash.__file__, *options, "--", *command],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env=dict(env),
            cwd=cwd,
            start_new_session=True,  # a Ctrl-C in the terminal is for us to handle, in our order
        )

    @property
    def pid(self) -> int:
        """The leash's own pid: the program is its only child."""
        return self._leash.pid

    def exit_code(self) -> int | None:
        """None while the program runs."""
        return self._leash.poll()

    def stop(self) -> None:
        """End the program and wait for that."""
        with self._leash:
            self._leash.terminate()
            try:
                self._leash.wait(self._grace + 5)
            except subprocess.TimeoutExpired:
                self._leash.kill()
