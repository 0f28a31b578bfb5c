"""The first thing a function's process runs: `python -S -P function_main.py HANDLER`.

It has only what Lambda would give it on its path, so a dependency that is missing from the layer is missing
here too.
"""

import os
import signal
import sys
import threading


def end_with_localstack() -> None:
    """LocalStack holds the other end of our stdin: once that closes, end ourselves and our children."""
    os.read(0, 1)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    threading.Thread(target=end_with_localstack, daemon=True).start()
    from awslambdaric.__main__ import main  # only now: it takes a while to import

    main(["", sys.argv[1]])
