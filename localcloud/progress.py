"""Says what is being done and for how long, so that no minute is silent.

The bootstrap imports this under whatever Python 3 the machine has: standard library and Python 3.9 only.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

HEARTBEAT_SECONDS = 10.0
LINES_OF_A_FAILURE = 40


class CommandError(Exception):
    """A program we ran failed; the message says which, and the end of what it wrote."""


def say(text: str) -> None:
    """Print one line at once, whatever stdout is connected to."""
    print(text, flush=True)


@contextlib.contextmanager
def step(title: str) -> Iterator[None]:
    """Print `title` and its seconds when done; while it takes long, say so every ten seconds."""
    started = time.monotonic()
    done = threading.Event()

    def beat() -> None:
        while not done.wait(HEARTBEAT_SECONDS):
            say(f"    ... {title}: {time.monotonic() - started:.0f} s so far")

    heart = threading.Thread(target=beat, daemon=True)
    heart.start()
    try:
        yield
    except BaseException:
        say(f"  {title}: FAILED after {time.monotonic() - started:.1f} s")
        raise
    else:
        say(f"  {title} ({time.monotonic() - started:.1f} s)")
    finally:
        done.set()
        heart.join()


def run_logged(command: Sequence[str], log: Path, *, env: Mapping[str, str], cwd: Path | None = None) -> None:
    """Run a program with its output appended to `log`; a failure shows the end of that output."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:
        out.write(f"\n$ {' '.join(command)}\n".encode())
        out.flush()
        begin = out.tell()
        code = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=dict(env), cwd=cwd, check=False
        ).returncode
    if code != 0:
        with log.open("rb") as written:
            written.seek(begin)
            lines = written.read().decode(errors="replace").splitlines()[-LINES_OF_A_FAILURE:]
        tail = "\n".join(f"    {line}" for line in lines)
        raise CommandError(f"{' '.join(command[:4])} ... exited with {code} (all of it: {log}):\n{tail}")


def fail(message: str) -> int:
    """Print an error where errors belong; the value is the exit code."""
    print(f"error: {message}", file=sys.stderr, flush=True)
    return 1
