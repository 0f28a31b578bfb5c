"""VeriPost for Python programs.

    with Client("https://.../api", key="...") as veripost:
        landed = veripost.upload(Path("HAAS_VF4.zip"))
        veripost.wait(landed.package_id)
        for file in veripost.files(landed.package_id):
            veripost.download_file(landed.package_id, file, Path("posts"))

Everything has a timeout, streams in constant memory, and is tried again where repeating it is harmless.
What goes wrong is a `ClientError`; files of this machine raise `OSError`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext, suppress
from http import HTTPStatus
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Final
from uuid import UUID

from urllib3.exceptions import HTTPError, SSLError

import veripost
from veripost.schemas import (
    Accepted,
    AcceptedWithForm,
    DoctorAccepted,
    DoctorView,
    Duplicate,
    FileList,
    FileView,
    Health,
    HitList,
    HitView,
    KeyList,
    KeyView,
    MintedKey,
    PackageDetail,
    PackageList,
    PackageSummary,
    ProblemList,
    ProblemView,
    StatusView,
)
from veripost.schemas import Comparison as PackageComparison
from veripost_client.answers import (
    Comparison,
    PackageFilter,
    Saved,
    State,
    Upload,
)
from veripost_client.bundle import check_bundle
from veripost_client.downloads import PART_PREFIX, Progress, Wanted, download
from veripost_client.errors import (
    ClientError,
    Conflict,
    Mismatch,
    NotFound,
    Refused,
    Unavailable,
    UnexpectedAnswer,
    Unfinished,
)
from veripost_client.form import FormBody, told_by_store
from veripost_client.hashing import Facts, facts_of
from veripost_client.journal import Entry, Journal
from veripost_client.retry import Retry
from veripost_client.targets import target_in
from veripost_client.transport import Answer, Query, Transport

FINAL: Final = frozenset({"ready", "error"})
DEFAULT_PLATFORM: Final = "camworks"
_PAGE: Final = 200
_FIRST_POLL, _SLOWEST_POLL = 0.2, 2.0  # seconds between two looks, where the server names none
_LONGEST_WAIT: Final = 20  # seconds that a server may hold a question back
# What S3 calls bytes that are not those of which the form holds the hash and the size.
_CHANGED: Final = frozenset(
    {"BadDigest", "InvalidDigest", "XAmzContentChecksumMismatch", "EntityTooLarge", "EntityTooSmall"}
)
_STORE_TRY_AGAIN: Final = frozenset({429, 500, 502, 503, 504})


def _ignore(_what: object) -> None:
    return None


class Client:
    """One VeriPost. Keeps connections open; safe to use from several threads.

    Parameters
    ----------
    url
        The API's address, as `make up` or the stack's output gives it.
    key
        An API key; sent in `key_header`, and to this address only.
    journal
        A folder in which interrupted uploads are remembered, so that the next attempt, by another process
        even, goes on with the same package. None: they are not remembered.
    connections
        How many connections to one host are kept open.
    sleep
        Waits so many seconds; may raise to end what is under way.
    """

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        key_header: str = "X-API-Key",
        journal: Path | None = None,
        retry: Retry | None = None,
        connections: int = 8,
        agent: str = f"veripost-client/{veripost.__version__}",
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._transport = Transport(
            url,
            key,
            key_header=key_header,
            agent=agent,
            retry=retry or Retry(),
            connections=connections,
            sleep=sleep,
        )
        self._journal = Journal(journal) if journal else None
        self._sleep = sleep

    @property
    def url(self) -> str:
        """The API's address."""
        return self._transport.url

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection."""
        self._transport.close()

    def health(self) -> Health:
        """Return what the server says of its parts. Raises `Unavailable` when one is down."""
        return self._transport.call("GET", "/v1/health").read(Health)

    # -- uploading

    def announce(
        self,
        filename: str,
        facts: Facts,
        *,
        platform: str = DEFAULT_PLATFORM,
        allow_duplicate: bool = False,
    ) -> AcceptedWithForm | Duplicate:
        """Make a package whose bytes are still to come, unless the server has them already.

        It is sent again only where it surely did not arrive: each call makes a package.
        """
        document = {
            "filename": filename,
            "size_bytes": facts.size,
            "sha256": facts.sha256,
            "platform": platform,
        }
        query = [("allow_duplicate", "true")] if allow_duplicate else []
        answer = self._transport.call("POST", "/v1/packages", query=query, document=document)
        if answer.status == HTTPStatus.OK:
            return answer.read(Duplicate)
        return answer.read(AcceptedWithForm)

    def upload(
        self,
        path: Path,
        *,
        filename: str | None = None,
        platform: str = DEFAULT_PLATFORM,
        allow_duplicate: bool = False,
        facts: Facts | None = None,
        on_progress: Progress = _ignore,
    ) -> Upload:
        """Send a ZIP of any size straight to the store, which itself refuses any bytes but these.

        `on_progress` hears how many bytes have been sent. `facts`, if given, are the file's, and save reading
        it once. The verdict comes later: `wait`. Bytes that are a ready package already are not sent, unless
        `allow_duplicate` is true.

        Raises
        ------
        Mismatch
            The file changed while it was being sent.
        ClientError, OSError
            It did not arrive; the next call with the same bytes goes on with the same package.
        """
        facts = facts or facts_of(path)
        if facts.size == 0:
            raise Refused("This file is empty.", code="not_a_zip", detail=str(path))
        with self._journal.entry(self.url, platform, facts) if self._journal else nullcontext() as entry:
            promised, landed = self._promised(entry)
            resumed = promised is not None
            if promised is None:
                announced = self.announce(
                    filename or path.name, facts, platform=platform, allow_duplicate=allow_duplicate
                )
                if isinstance(announced, Duplicate):
                    return Upload(announced.package_id, None, facts.sha256, facts.size, duplicate=True)
                promised = announced
                if entry:
                    with suppress(OSError):  # a machine without a writable home can upload all the same
                        entry.keep(promised)
            if not landed:
                self._send(promised, path, facts, on_progress)
            on_progress(facts.size)
            if entry:
                entry.forget()
        return Upload(promised.package_id, promised.job_id, facts.sha256, facts.size, resumed)

    def _promised(self, entry: Entry | None) -> tuple[AcceptedWithForm | None, bool]:
        """Return what an interrupted upload was promised, and whether its bytes have landed after all."""
        promised = entry.find() if entry else None
        if promised is None or entry is None:
            return None, False
        try:
            status = self.status(promised.package_id)
        except NotFound:
            status = None
        if status is None or status.status in ("error", "deleting"):
            entry.forget()
            return None, False
        return promised, status.status != "pending" or status.progress.bytes_received is not None

    def _send(self, promised: AcceptedWithForm, path: Path, facts: Facts, on_progress: Progress) -> None:
        # The key of the form is this package's alone, so sending twice is as good as once.
        form = promised.upload
        failures = 0
        while True:
            body = FormBody(form.fields, path, facts.size, on_progress)
            try:
                answer = self._transport.send(form.url, body, body.headers)
                if answer.status < 300:
                    return
                error, hopeful = _store_error(answer)
            except HTTPError as broken:
                error, hopeful = (
                    self._transport.unreachable(form.url, broken),
                    not isinstance(broken, SSLError),
                )
            failures += 1
            if not hopeful or failures >= self._transport.retry.attempts:
                raise error
            self._sleep(self._transport.retry.pause(failures, error.retry_after))

    # -- reading

    def status(self, package_id: UUID) -> StatusView:
        """Return how far a package is. Raises `NotFound`."""
        return self._transport.call("GET", f"/v1/packages/{package_id}/status").read(StatusView)

    def wait(
        self,
        package_id: UUID,
        *,
        seconds: float = 600,
        job_id: UUID | None = None,
        on_change: Callable[[StatusView], object] = _ignore,
    ) -> StatusView:
        """Wait until a package is `ready` or `error`; return its last status, whichever it is.

        `on_change` hears each new state, and how far it is. With `job_id` (of a replay) an end that an
        earlier job came to does not count.

        Raises
        ------
        Unfinished
            It was neither after so many seconds.
        NotFound
            There is no such package.
        """
        deadline = time.monotonic() + seconds
        path = f"/v1/packages/{package_id}/status"
        known: dict[str, str] = {}
        status: StatusView | None = None
        pause = _FIRST_POLL
        while True:
            # A server that can waits with us until there is news; one that cannot answers at once.
            patience = min(_LONGEST_WAIT, max(0, int(deadline - time.monotonic())))
            answer = self._transport.call("GET", path, query=[("wait", str(patience))], headers=known)
            before = status
            if status is None or answer.status != HTTPStatus.NOT_MODIFIED:
                status = answer.read(StatusView)
            known = {"If-None-Match": answer.headers["ETag"]} if "ETag" in answer.headers else {}
            if before is None or (status.status, status.progress) != (before.status, before.progress):
                pause = _FIRST_POLL
                on_change(status)
            if status.status in FINAL and job_id in (None, status.job_id):
                return status
            if time.monotonic() >= deadline:
                raise Unfinished(
                    f"The package is still {status.status} after {seconds:g} s. VeriPost goes on with it.",
                    detail=f"package {package_id}",
                )
            self._sleep(min(answer.retry_after or pause, max(0.0, deadline - time.monotonic())))
            pause = min(pause * 1.5, _SLOWEST_POLL)

    def packages(
        self, chosen: PackageFilter | None = None, *, most: int | None = None
    ) -> Iterator[PackageSummary]:
        """Yield the packages that match, `most` of them, in the server's order; pages come as needed."""
        query = chosen.query() if chosen else ()
        left = most
        for page in self._pages("/v1/packages", PackageList, query, limit=min(most or _PAGE, _PAGE)):
            yield from page.packages[:left]
            if left is not None:
                left -= len(page.packages)
                if left <= 0:
                    return

    def package(self, package_id: UUID) -> PackageDetail:
        """Return a package with the first of its files, findings and jobs. Raises `NotFound`."""
        return self._transport.call("GET", f"/v1/packages/{package_id}").read(PackageDetail)

    def files(self, package_id: UUID) -> Iterator[FileView]:
        """Yield every file of a package, by name. Raises `NotFound`."""
        for page in self._pages(f"/v1/packages/{package_id}/files", FileList):
            yield from page.files

    def problems(self, package_id: UUID) -> Iterator[ProblemView]:
        """Yield every finding in a package. Raises `NotFound`."""
        for page in self._pages(f"/v1/packages/{package_id}/problems", ProblemList):
            yield from page.problems

    # -- downloading

    def download_file(
        self,
        package_id: UUID,
        file: FileView,
        folder: Path,
        *,
        force: bool = False,
        on_progress: Progress = _ignore,
    ) -> Saved:
        """Save a file of a package in `folder`, under its own name, verified; goes on with an earlier part.

        Raises
        ------
        Mismatch, TargetExists, UnsafeName
            Nothing was written over, and nothing unverified is there.
        """
        return download(
            self._transport,
            lambda: self._location(f"/v1/packages/{package_id}/files/{file.id}/download"),
            target_in(folder, file.filename),
            Wanted(file.size_bytes, file.content_hash),
            force=force,
            on_progress=on_progress,
        )

    def download_archive(
        self, package: PackageSummary, folder: Path, *, force: bool = False, on_progress: Progress = _ignore
    ) -> Saved:
        """Save the original ZIP as `{name}.zip` in `folder`, exactly as it came.

        It is verified unless the server could not read it to its end, and so knows no hash of it.
        """
        return download(
            self._transport,
            lambda: self._location(f"/v1/packages/{package.id}/archive"),
            target_in(folder, f"{package.name}.zip"),
            # A size without a hash is what the uploader announced, which is an upper bound only.
            Wanted(package.size_bytes if package.content_hash else None, package.content_hash),
            force=force,
            on_progress=on_progress,
        )

    def download_bundle(
        self,
        package: PackageSummary,
        folder: Path,
        *,
        force: bool = False,
        seconds: float = 300,
        on_progress: Progress = _ignore,
    ) -> Saved:
        """Have the stored files packed into one ZIP and save it as `{name}.zip` in `folder`.

        No hash of the ZIP is recorded: it is verified file by file, against the record, before it appears.

        Raises
        ------
        Unfinished
            It was not packed after so many seconds.
        Mismatch
            A file in it is not what the record names.
        """
        path = f"/v1/packages/{package.id}/bundle"
        self._transport.call("POST", path, repeatable=True)
        deadline = time.monotonic() + seconds
        while (answer := self._transport.call("GET", path)).status != HTTPStatus.FOUND:
            if time.monotonic() >= deadline:
                raise Unfinished(f"The bundle is still being packed after {seconds:g} s.", detail=path)
            self._sleep(min(answer.retry_after or 1.0, self._transport.retry.patience))
        recorded = {file.filename: file.content_hash for file in self.files(package.id)}
        return download(
            self._transport,
            lambda: self._location(path),
            target_in(folder, f"{package.name}.zip"),
            Wanted(None, None),
            force=force,
            on_progress=on_progress,
            check=lambda file: check_bundle(file, recorded),
        )

    def differences(
        self, package_id: UUID, other_id: UUID, *, section: str | None = None
    ) -> Iterator[PackageComparison]:
        """Yield how two packages differ, page by page; each page has the totals, too.

        With `section`, line by line in the sections of that name.

        Raises
        ------
        NotFound
            One of the packages is not there, or neither has such a section.
        Conflict
            One of them has never been ready.
        """
        query = [] if section is None else [("section", section)]
        yield from self._pages(f"/v1/packages/{package_id}/diff/{other_id}", PackageComparison, query)

    def search(self, q: str, *, most: int = 50) -> Iterator[HitView]:
        """Yield up to `most` packages, sections and attributes by their names, the best first."""
        hits = (hit for page in self._pages("/v1/search", HitList, [("q", q)]) for hit in page.hits)
        return islice(hits, most)

    def verify(self, package_id: UUID, folder: Path) -> Iterator[Comparison]:
        """Compare the files in `folder` with the record: first those of the record, then what is beside them.

        Raises
        ------
        NotFound
            There is no such package.
        """
        known = set()
        for file in self.files(package_id):
            known.add(file.filename)
            path = target_in(folder, file.filename)
            if not path.is_file():
                yield Comparison(file.filename, State.MISSING, file.content_hash, None)
                continue
            found = facts_of(path).sha256
            state = State.SAME if found == file.content_hash else State.DIFFERENT
            yield Comparison(file.filename, state, file.content_hash, found)
        present = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
        for name in present:
            if name not in known and not name.startswith(PART_PREFIX):
                yield Comparison(name, State.EXTRA, None, None)

    def _location(self, path: str) -> str:
        answer = self._transport.call("GET", path)
        location = answer.headers.get("Location")
        if answer.status != HTTPStatus.FOUND or not location:
            raise UnexpectedAnswer("VeriPost did not say where to download from.", detail=f"{answer.status}")
        return location

    # -- changing

    def replay(self, package_id: UUID) -> Accepted:
        """Process the kept original again. Raises `NotFound`, `Conflict`."""
        return self._transport.call("POST", f"/v1/packages/{package_id}/replay").read(Accepted)

    def delete(self, package_id: UUID, *, seconds: float = 0) -> bool:
        """Delete a package; True when nothing of it is left, False while the server still works on that.

        A package that is not there counts as deleted. For up to `seconds`, waits for a worker that holds the
        package, and then for the deletion to be complete.

        Raises
        ------
        Conflict
            A worker still holds it.
        """
        deadline = time.monotonic() + seconds
        failures = 0
        while True:
            try:
                answer = self._transport.call("DELETE", f"/v1/packages/{package_id}")
                if answer.status == HTTPStatus.NO_CONTENT:
                    return True
                asked, busy = answer.retry_after, None
            except Conflict as error:
                asked, busy = error.retry_after, error
            failures += 1
            pause = self._transport.retry.pause(failures, asked)
            if time.monotonic() + pause > deadline:
                if busy is not None:
                    raise busy
                return False
            self._sleep(pause)

    # -- keys and upkeep

    def create_key(self, client_name: str, scopes: Sequence[str], *, days: int | None = None) -> MintedKey:
        """Make an API key; its text is in this answer only. `days`: how long it is valid."""
        document: dict[str, Any] = {"client_name": client_name, "scopes": list(scopes)}
        if days is not None:
            document["days"] = days
        return self._transport.call("POST", "/v1/keys", document=document).read(MintedKey)

    def keys(self) -> Iterator[KeyView]:
        """Yield every API key, without its text."""
        for page in self._pages("/v1/keys", KeyList):
            yield from page.keys

    def revoke_key(self, key_id: UUID) -> None:
        """End an API key. Raises `NotFound`."""
        self._transport.call("DELETE", f"/v1/keys/{key_id}")

    def start_doctor(self, *, fix: bool = False, deep: bool = False) -> DoctorAccepted:
        """Start comparing what is stored with what is recorded.

        `deep` reads every byte; `fix` repairs what can be repaired.
        """
        document = {"fix": fix, "deep": deep}
        return self._transport.call("POST", "/v1/doctor", document=document).read(DoctorAccepted)

    def doctor(self, doctor_id: UUID, *, seconds: float = 900) -> DoctorView:
        """Wait for a doctor's run to end and return it. Raises `NotFound`, `Unfinished`."""
        deadline = time.monotonic() + seconds
        while True:
            answer = self._transport.call("GET", f"/v1/doctor/{doctor_id}")
            run = answer.read(DoctorView)
            if run.status == "done":
                return run
            if time.monotonic() >= deadline:
                raise Unfinished(f"The doctor is still at work after {seconds:g} s.", detail=str(doctor_id))
            self._sleep(min(answer.retry_after or _SLOWEST_POLL, self._transport.retry.patience))

    def _pages[Page: (PackageList, FileList, ProblemList, KeyList, HitList, PackageComparison)](
        self, path: str, model: type[Page], query: Query = (), *, limit: int = _PAGE
    ) -> Iterator[Page]:
        cursor: list[tuple[str, str]] = []
        while True:
            answer = self._transport.call("GET", path, query=[*query, ("limit", str(limit)), *cursor])
            page = answer.read(model)
            yield page
            if page.next_cursor is None:
                return
            cursor = [("cursor", page.next_cursor)]


def _store_error(answer: Answer) -> tuple[ClientError, bool]:
    """Return what a store's refusal of a form means, and whether sending again can help."""
    code, said = told_by_store(answer.body)
    detail = f"the store answered {answer.status} {code}: {said}"
    if code in _CHANGED:
        message = "The file changed while it was being sent. Send it again once nothing writes to it."
        return Mismatch(message, code="file_changed", detail=detail), False
    hopeful = answer.status in _STORE_TRY_AGAIN or code == "RequestTimeout"
    message = "The store did not take the file. Please try again."
    return Unavailable(message, code="store_error", detail=detail, retry_after=answer.retry_after), hopeful
