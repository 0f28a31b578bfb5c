"""The few calls that the demo and the end-to-end tests make: plain HTTP, as any client would."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import urllib3

FINAL = frozenset({"ready", "error"})


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer. Header names are compared without case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)


class ApiClient:
    """Talks to one deployed VeriPost, with an API key or (for tests) without."""

    def __init__(self, api_url: str, key: str | None = None) -> None:
        self.api_url = api_url.rstrip("/")
        self.key = key
        self._http = urllib3.PoolManager(retries=False, timeout=60)

    def request(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        fields: Mapping[str, Any] | None = None,
    ) -> Answer:
        """Send one request to a route, or (without the key) to a whole URL; redirects are not followed."""
        elsewhere = path.startswith("http")
        url = path if elsewhere else f"{self.api_url}{path}"
        credentials = {"X-API-Key": self.key} if self.key and not elsewhere else {}
        content: dict[str, Any] = {"body": body} if fields is None else {"fields": dict(fields)}
        answer = self._http.request(
            method, url, headers={**credentials, **(headers or {})}, redirect=False, **content
        )
        return Answer(answer.status, answer.headers, answer.data)

    def get(self, path: str, *, headers: Mapping[str, str] | None = None) -> Answer:
        """Send a GET."""
        return self.request("GET", path, headers=headers)

    def post(self, path: str, document: object) -> Answer:
        """Send a POST with a JSON body."""
        headers = {"Content-Type": "application/json"}
        return self.request("POST", path, body=json.dumps(document).encode(), headers=headers)

    def announce(self, filename: str, data: bytes, *, with_hash: bool = True) -> Answer:
        """Ask for a presigned form for `data`."""
        document: dict[str, Any] = {"filename": filename, "size_bytes": len(data)}
        if with_hash:
            document["sha256"] = hashlib.sha256(data).hexdigest()
        return self.post("/v1/packages", document)

    def send_form(self, form: Mapping[str, Any], data: bytes) -> Answer:
        """Send `data` with a presigned form; S3 wants the file to be the last field."""
        fields = {**form["fields"], "file": ("archive.zip", data, "application/zip")}
        return self.request("POST", form["url"], fields=fields)

    def upload(self, filename: str, data: bytes, *, path: str = "/v1/packages/upload") -> Answer:
        """Upload in one call."""
        return self.request("POST", path, fields={"file": (filename, data, "application/zip")})

    def wait(
        self,
        package_id: str,
        *,
        seconds: float = 60,
        every: float = 0.05,
        on_change: Callable[[str], None] = lambda _status: None,
    ) -> Any:
        """Poll a package's status, `every` so many seconds, until it is final; return that document.

        Raises
        ------
        TimeoutError
            It was not final in time.
        """
        deadline = time.monotonic() + seconds
        last = None
        while True:
            document = self.get(f"/v1/packages/{package_id}/status").json
            if document["status"] != last:
                last = document["status"]
                on_change(last)
            if last in FINAL:
                return document
            if time.monotonic() > deadline:
                raise TimeoutError(f"package {package_id} is still {last}")
            time.sleep(every)

    def wait_for_drop(self, key: str, *, seconds: float = 60) -> str:
        """Wait until a dropped object has become a package; return its id."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for package in self.get("/v1/packages?limit=20").json["packages"]:
                detail = self.get(f"/v1/packages/{package['id']}").json
                if detail.get("source_key") == key:
                    return str(package["id"])
            time.sleep(0.1)
        raise TimeoutError(f"no package was made of {key}")

    def download(self, path: str) -> bytes:
        """Follow a route's redirect to S3 and return the bytes."""
        redirect = self.get(path)
        if redirect.status != 302:
            raise ConnectionError(f"{path} answered {redirect.status}: {redirect.body.decode()}")
        answer = self.request("GET", redirect.headers["Location"])
        if answer.status != 200:
            raise ConnectionError(f"the store answered {answer.status}")
        return answer.body
