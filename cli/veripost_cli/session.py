"""What every command has: output, a client when it needs one, and work in parallel that can be stopped."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import click

from veripost_cli import __version__, logins
from veripost_cli.bars import Bars
from veripost_cli.exits import Exit, exit_of
from veripost_cli.output import Output
from veripost_client import Client, ClientError


class Stopped(BaseException):
    """Raised in a worker when the user has interrupted: no handler of errors may catch it."""


class Session:
    """One run of one command."""

    def __init__(self, output: Output, *, url: str | None) -> None:
        self.output = output
        self._url = url
        self._client: Client | None = None
        self._stop = threading.Event()

    @property
    def client(self) -> Client:
        """The client of the VeriPost that is meant. Raises `click.UsageError` if nobody said which."""
        if self._client is None:
            self._client = self.client_of(logins.find(os.environ, self._url))
        return self._client

    def client_of(self, login: logins.Login) -> Client:
        """Return a client for a login."""
        return Client(
            login.url,
            login.key,
            key_header=login.key_header,
            journal=logins.journal_at(),
            agent=f"veripost-cli/{__version__}",
            connections=32,
            sleep=self.sleep,
        )

    def close(self) -> None:
        """Close the client's connections."""
        if self._client is not None:
            self._client.close()

    def bars(self) -> Bars:
        """Return lines of progress, drawn if somebody watches."""
        return Bars(shown=self.output.is_live)

    def check(self, *_ignored: object) -> None:
        """Raise `Stopped` if the user has interrupted."""
        if self._stop.is_set():
            raise Stopped

    def sleep(self, seconds: float) -> None:
        """Wait, but no longer than the user does."""
        self._stop.wait(seconds)
        self.check()

    def in_parallel[Item, Result](
        self, work: Callable[[Item], Result], items: Sequence[Item], *, jobs: int
    ) -> Iterator[Result]:
        """Yield what `work` makes of each item, in their order; an error of one ends all."""
        with ThreadPoolExecutor(max(1, min(jobs, len(items)))) as pool:
            futures: list[Future[Result]] = [pool.submit(work, item) for item in items]
            try:
                for future in futures:
                    yield future.result()
            except BaseException:
                self._stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def command(function: Callable[..., Exit]) -> Callable[..., None]:
    """Make a click callback of `function`: it gets the session and gives its exit status; adds `--json`."""

    def run(context: click.Context, /, *, as_json: bool, **options: Any) -> None:
        output = Output(as_json=as_json)
        session = Session(output, url=context.find_root().params.get("url"))
        try:
            status = function(session, **options)
        except BrokenPipeError:
            raise
        except (ClientError, OSError) as error:
            output.failed(error)
            status = exit_of(error)
        finally:
            session.close()
        context.exit(int(status))

    functools.update_wrapper(run, function)
    json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
    return json_option(click.pass_context(run))
