"""What commands print: text for people or one JSON object a line; nothing a server or an archive says gets
to steer the terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from veripost.errors import printable

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.console import Console

    from veripost_client.errors import ClientError

GOOD, BAD, DIM, STRONG = "green", "red", "dim", "bold"


class Output:
    """Prints results on stdout, and errors and remarks on stderr."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self._consoles: dict[bool, Console] = {}

    @property
    def is_live(self) -> bool:
        """Tell whether somebody watches, so that progress may be drawn."""
        return not self.as_json and sys.stderr.isatty()

    def record(self, value: BaseModel | Mapping[str, Any] | object) -> None:
        """Print one JSON object on a line of its own; nothing without --json."""
        if self.as_json:
            print(json.dumps(plain(value)), flush=True)  # pure ASCII, so no terminal can be steered

    def line(self, text: str, style: str = "") -> None:
        """Print a line on stdout; nothing with --json. What does not print is spelled out."""
        if not self.as_json:
            self._print(text, style, error=False)

    def note(self, text: str, style: str = "") -> None:
        """Print a remark on stderr; nothing with --json."""
        if not self.as_json:
            self._print(text, style, error=True)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Print a table; where nobody watches, its rows alone, with tabs between the cells."""
        if self.as_json:
            return
        if not sys.stdout.isatty():
            for row in rows:
                print("\t".join(printable(cell) for cell in row))
            return
        from rich.table import Table  # only who sees a table waits for it
        from rich.text import Text

        table = Table(*columns, box=None, pad_edge=False, padding=(0, 2), header_style=STRONG)
        for row in rows:
            table.add_row(*(Text(printable(cell), overflow="fold") for cell in row))
        self._console(error=False).print(table)

    def problems(self, problems: Iterable[Any]) -> None:
        """Print findings (of the server, or of the gate itself), each with its code and what to do."""
        for problem in problems:
            severe = str(problem.severity) == "error"
            self.line(
                f"    {'✗' if severe else '·'} {problem.message} ({problem.code})", BAD if severe else ""
            )
            if problem.hint:
                self.line(f"      → {problem.hint}", DIM)

    def failed(self, error: ClientError | OSError) -> None:
        """Tell on stderr why a command could not do what it was asked."""
        told = error_document(error)
        if self.as_json:
            print(json.dumps({"error": told}), file=sys.stderr, flush=True)
            return
        self._print(f"veripost: {told['message']}", BAD, error=True)
        if told["detail"]:
            self._print(f"  {told['detail']}", DIM, error=True)
        for problem in told["problems"]:
            self._print(f"  {problem['message']} ({problem['code']})", "", error=True)
        if told["code"] in ("unauthenticated", "not_allowed"):
            self._print("  `veripost login` stores an API key; VERIPOST_API_KEY holds one.", DIM, error=True)

    def _print(self, text: str, style: str, *, error: bool) -> None:
        stream = sys.stderr if error else sys.stdout
        if not stream.isatty():
            print(printable(text), file=stream)
            return
        from rich.text import Text  # only who watches needs colours

        self._console(error=error).print(Text(printable(text), style=style), soft_wrap=True)

    def _console(self, *, error: bool) -> Console:
        if error not in self._consoles:
            from rich.console import Console  # see above

            self._consoles[error] = Console(stderr=error, markup=False, highlight=False, emoji=False)
        return self._consoles[error]


def error_document(error: ClientError | OSError) -> dict[str, Any]:
    """Return the JSON form of an error; that of a file of this machine has the code `file_error`."""
    if isinstance(error, OSError):
        name = "" if error.filename is None else f"{error.filename}: "
        return {
            "code": "file_error",
            "message": f"{name}{error.strerror or error}",
            "detail": None,
            "request_id": None,
            "problems": [],
        }
    return {
        "code": error.code,
        "message": error.message,
        "detail": error.detail,
        "request_id": error.request_id,
        "problems": [plain(problem) for problem in error.problems],
    }


def plain(value: Any) -> Any:
    """Return `value` as `json.dumps` takes it: models and dataclasses become objects."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if is_dataclass(value) and not isinstance(value, type):
        return {name: plain(item) for name, item in asdict(value).items()}
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float) else str(value)


def moment(value: datetime | None) -> str:
    """Return a time as people here read it."""
    return "" if value is None else value.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def size(value: int | None) -> str:
    """Return a number of bytes as people read it."""
    if value is None:
        return ""
    amount, units = float(value), iter(("kB", "MB", "GB", "TB"))
    unit = "B"
    while amount >= 1000 and (larger := next(units, None)):
        amount, unit = amount / 1000, larger
    return f"{amount:.0f} B" if unit == "B" else f"{amount:.1f} {unit}"
