"""Progress, one line a file: bytes while they move, then the package's state. Only where somebody watches."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from veripost.errors import printable

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from veripost.schemas import StatusView


class Bar:
    """One line of it."""

    def __init__(self, progress: Progress | None, task: TaskID | None) -> None:
        self._progress = progress
        self._task = task

    def at(self, done: int) -> None:
        """Show that so many bytes have moved."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=done)

    def total(self, size: int) -> None:
        """Set how many bytes there are."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, total=size)

    def state(self, text: str) -> None:
        """Show what is going on."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, state=printable(text))

    def follow(self, status: StatusView) -> None:
        """Show the state of a package and, while its files are stored, how many are."""
        progress = status.progress
        counted = f" {progress.files_stored}/{progress.files_total} files" if progress.files_total else ""
        self.state(f"{status.status}{counted}")

    def end(self) -> None:
        """Take the line away."""
        if self._progress is not None and self._task is not None:
            self._progress.remove_task(self._task)


class Bars:
    """All lines; a context that leaves nothing on the screen. Safe to use from several threads."""

    def __init__(self, *, shown: bool) -> None:
        self._progress: Progress | None = None
        if shown:
            self._progress = _progress()

    def __enter__(self) -> Bars:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def add(self, label: str, total: int | None = None) -> Bar:
        """Begin a line for something of `total` bytes."""
        if self._progress is None:
            return Bar(None, None)
        return Bar(self._progress, self._progress.add_task(printable(label), total=total, state=""))


def _progress() -> Progress:
    from rich.console import Console  # only who watches waits for it
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    return Progress(
        TextColumn("{task.description}", markup=False),  # names are data
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TextColumn("{task.fields[state]}", markup=False),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
