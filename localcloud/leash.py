"""Run one program and take it down when whoever started us is gone: `python leash.py ... -- PROGRAM`.

The starter holds the other end of our stdin. Its end, however violent, closes that pipe; we stop the program
and delete the folder that nobody is left to delete. To have just the program stopped, it sends SIGTERM.
Should this process itself be killed, Linux sends the program a signal (PR_SET_PDEATHSIG).
A script of its own, run with `python -I -S`, so that a leash costs little.
"""

import argparse
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import threading

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


# Looked up here, since the child may be a user who cannot read this Python any more.
prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


def follow_parent(number: int) -> None:
    """In the child, after the user changed and before the program starts (changing users clears it)."""
    if prctl is not None:
        prctl(PR_SET_PDEATHSIG, number)


def main() -> int:
    """Start the program, wait for its end or for ours."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--signal", default="SIGTERM", help="what asks the program to stop")
    parser.add_argument("--death-signal", default="SIGKILL", help="what Linux sends it when we are killed")
    parser.add_argument("--grace", type=float, default=15, help="seconds until SIGKILL follows")
    parser.add_argument("--discard", help="folder to delete once the starter is gone")
    parser.add_argument("--uid", type=int)
    parser.add_argument("--gid", type=int)
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    number = signal.Signals[arguments.signal]
    death_number = signal.Signals[arguments.death_signal]

    stopping = threading.Event()
    orphaned = threading.Event()
    for ours in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(ours, lambda *_: stopping.set())
    # Started from the main thread: PR_SET_PDEATHSIG fires when the starting *thread* ends.
    child = subprocess.Popen(
        arguments.command,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        user=arguments.uid,
        group=arguments.gid,
        extra_groups=None if arguments.uid is None else [],
        preexec_fn=lambda: follow_parent(death_number),  # noqa: PLW1509 (no thread exists yet)
    )

    def wait_for_starter() -> None:
        os.read(0, 1)
        orphaned.set()
        stopping.set()

    def wait_for_child() -> None:
        child.wait()
        stopping.set()

    for wait in (wait_for_starter, wait_for_child):
        threading.Thread(target=wait, daemon=True).start()
    stopping.wait()
    if child.poll() is None:
        child.send_signal(number)
        try:
            child.wait(arguments.grace)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    if orphaned.is_set() and arguments.discard:
        shutil.rmtree(arguments.discard, ignore_errors=True)
    return child.returncode


if __name__ == "__main__":
    sys.exit(main())
