"""HTTP: pooled connections, timeouts everywhere, retries where repeating is harmless, typed errors."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from pydantic import BaseModel, ValidationError
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    LocationParseError,
    NewConnectionError,
    ProxyError,
    SSLError,
)

from veripost.schemas import ErrorBody
from veripost_client.errors import (
    ClientError,
    Conflict,
    InvalidRequest,
    NotAllowed,
    NotFound,
    Refused,
    Unavailable,
    UnexpectedAnswer,
)
from veripost_client.retry import Retry, retry_after

Query = Sequence[tuple[str, str]]

CHUNK_BYTES: Final = 256 * 1024
_MOST_JSON_BYTES: Final = 16 * 1024 * 1024  # API Gateway's own bound is 10 MB
# The connect timeout also bounds each write of a body: a line that takes no byte for so long is dead.
_TIMEOUT: Final = urllib3.Timeout(connect=20, read=60)
_TRY_AGAIN: Final = frozenset({429, 502, 503, 504})
# Answers that say that nothing was done, so that even what must not happen twice may be sent again.
_NOTHING_DONE: Final = frozenset({429, 503})

_KINDS: Final[Mapping[int, type[ClientError]]] = {
    401: NotAllowed,
    403: NotAllowed,
    404: NotFound,
    409: Conflict,
    429: Unavailable,
}


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of the API that is no error. Header names are compared without case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def read[Model: BaseModel](self, model: type[Model]) -> Model:
        """Return the JSON body as `model`. Raises `UnexpectedAnswer`."""
        try:
            return model.model_validate_json(self.body)
        except ValidationError as error:
            raise UnexpectedAnswer(
                "VeriPost answered something that this client does not understand. Is it up to date?",
                detail=f"{model.__name__}: {error.error_count()} fields do not fit",
            ) from error

    @property
    def retry_after(self) -> float | None:
        """The seconds that the server asks to wait."""
        return retry_after(self.headers.get("Retry-After"))


class Transport:
    """Talks to one VeriPost and to the stores that it names. Safe to use from several threads.

    The key goes to VeriPost's own address only, never to a URL that an answer named.
    """

    def __init__(
        self,
        url: str,
        key: str | None,
        *,
        key_header: str,
        agent: str,
        retry: Retry,
        connections: int,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidRequest(f"“{url}” is not an address of VeriPost: it starts with https://.")
        self.url = url.rstrip("/")
        self.retry = retry
        self.sleep = sleep
        self._agent = {"User-Agent": agent}
        self._own = {key_header: key} if key else {}
        self._pools: dict[str | None, urllib3.PoolManager] = {}
        self._connections = connections

    def close(self) -> None:
        """Close every connection."""
        for pool in self._pools.values():
            pool.clear()

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Query = (),
        document: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        repeatable: bool | None = None,
    ) -> Answer:
        """Send a request to a route and return its answer (2xx or 3xx; redirects are not followed).

        `repeatable` says that doing it twice is as good as once (by default: GET and DELETE); only then is a
        request sent again of which nobody knows whether it arrived.

        Raises
        ------
        ClientError
            One of its kinds, when the answer is an error or none came after all attempts.
        """
        again = method in ("GET", "DELETE") if repeatable is None else repeatable
        url = f"{self.url}{path}" + (f"?{urlencode(query)}" if query else "")
        body = None if document is None else json.dumps(document).encode()
        sent = {**self._agent, **self._own, "Accept": "application/json", **(headers or {})}
        if body is not None:
            sent["Content-Type"] = "application/json"
        failures = 0
        while True:
            try:
                with self._exchange(method, url, sent, body) as response:
                    data = response.read(_MOST_JSON_BYTES)
                    answer = Answer(response.status, response.headers, data)
                if answer.status < 400:
                    return answer
                error = error_of(answer)
                hopeful = answer.status in (_TRY_AGAIN if again else _NOTHING_DONE)
            except HTTPError as broken:
                error = self.unreachable(url, broken)
                hopeful = _can_help(broken) and (again or never_sent(broken))
            failures += 1
            if not hopeful or failures >= self.retry.attempts:
                raise error
            self.sleep(self.retry.pause(failures, error.retry_after))

    @contextmanager
    def stream(
        self, url: str, *, headers: Mapping[str, str] | None = None
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        """GET a URL that an answer named (a store's), once; the caller reads the body in pieces.

        Raises what urllib3 raises when the connection breaks, then or while the body is read.
        """
        with self._exchange("GET", url, {**self._agent, **(headers or {})}, None) as response:
            yield response

    def send(self, url: str, body: Iterable[bytes], headers: Mapping[str, str]) -> Answer:
        """POST a body in pieces to a URL that an answer named, once; return whatever is answered.

        Raises what urllib3 raises when the connection breaks, and what `body` raises.
        """
        with self._exchange("POST", url, {**self._agent, **headers}, body) as response:
            return Answer(response.status, response.headers, response.read(_MOST_JSON_BYTES))

    def unreachable(self, url: str, broken: HTTPError) -> ClientError:
        """Return the error that tells of a connection that failed."""
        host = urlsplit(url).netloc.rpartition("@")[2]
        if isinstance(broken, LocationParseError):
            return InvalidRequest(f"“{url}” is not an address that can be reached.", detail=str(broken))
        if isinstance(broken, SSLError):
            return Unavailable(
                f"{host} could not prove who it is, so nothing was sent.",
                code="untrusted",
                detail=str(broken),
            )
        return Unavailable(f"{host} does not answer.", code="unreachable", detail=str(broken))

    @contextmanager
    def _exchange(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | Iterable[bytes] | None
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        response = self._pool(url).request(
            method,
            url,
            body=body,
            headers=dict(headers),
            redirect=False,
            retries=False,
            preload_content=False,
            decode_content=False,
        )
        try:
            yield response
        finally:
            # One that was read to its end is back in the pool by now; any other is of no more use.
            response.close()

    def _pool(self, url: str) -> urllib3.PoolManager:
        parts = urlsplit(url)
        proxy = None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)
        if proxy not in self._pools:
            options: dict[str, Any] = {
                "maxsize": self._connections,
                "timeout": _TIMEOUT,
                "blocksize": CHUNK_BYTES,
            }
            self._pools[proxy] = (
                urllib3.ProxyManager(proxy, **options) if proxy else urllib3.PoolManager(**options)
            )
        return self._pools[proxy]


def never_sent(broken: HTTPError) -> bool:
    """Tell whether the connection failed before the request left, so that it cannot have been done."""
    return isinstance(broken, NewConnectionError | ConnectTimeoutError | ProxyError)


def _can_help(broken: HTTPError) -> bool:
    return not isinstance(broken, LocationParseError | SSLError)


def error_of(answer: Answer) -> ClientError:
    """Return the error that an answer of the API tells of."""
    try:
        told = ErrorBody.model_validate_json(answer.body)
    except ValidationError:
        kind = Unavailable if answer.status >= 500 else _KINDS.get(answer.status, UnexpectedAnswer)
        return kind(
            f"The server answered {answer.status}, and nothing that VeriPost would say.",
            detail=answer.body[:200].decode("utf-8", errors="replace"),
            retry_after=answer.retry_after,
        )
    if answer.status >= 500:
        kind = Unavailable
    elif told.problems or told.code == "not_a_zip":
        kind = Refused
    else:
        kind = _KINDS.get(answer.status, InvalidRequest)
    return kind(
        told.message,
        code=told.code,
        detail=told.detail,
        request_id=told.request_id,
        problems=told.problems or (),
        retry_after=answer.retry_after,
    )
