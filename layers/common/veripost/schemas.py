"""What goes over the wire: request bodies and answers of the HTTP API."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from veripost.api_key import Scope

FILES_SHOWN = 200
PROBLEMS_SHOWN = 100
RUNS_SHOWN = 20


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, from_attributes=True)


# -- requests


class CreatePackage(BaseModel):
    """`POST /v1/packages`: what the client is about to upload. `sha256` is in hex, sizes in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    filename: Annotated[str, StringConstraints(max_length=1024, pattern=r"^[^\x00-\x1f\x7f]+$")]
    size_bytes: Annotated[int, Field(gt=0, strict=True)]
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{64}$", to_lower=True)] | None = None
    platform: Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,64}$")] = "camworks"


class ListedFile(BaseModel):
    """A file that is about to be zipped: its path in the ZIP (a folder's ends in `/`) and its size."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    size_bytes: Annotated[int, Field(ge=0, lt=2**63, strict=True)]


class CheckPackage(BaseModel):
    """`POST /v1/packages/check`: the files that a package would consist of."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    files: list[ListedFile]
    platform: Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,64}$")] = "camworks"


class ReplayMany(BaseModel):
    """`POST /v1/replays`: which packages to process again; those that match every field that is given."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    status: Literal["ready", "error"] | None = None
    error_code: Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]{1,64}$")] | None = None
    platform: Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,64}$")] | None = None
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    limit: Annotated[int, Field(ge=1, le=1000, strict=True)] = 100


class CreateKey(BaseModel):
    """`POST /v1/keys`: a key for `client_name`, for ever or until `expires_at`, or for so many `days`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    client_name: Annotated[
        str, StringConstraints(max_length=100, pattern=r"^[^\s\x00-\x1f\x7f][^\x00-\x1f\x7f]*$")
    ]
    scopes: Annotated[frozenset[Scope], Field(min_length=1)]
    expires_at: AwareDatetime | None = None
    days: Annotated[int, Field(ge=1, le=3650, strict=True)] | None = None

    @model_validator(mode="after")
    def _one_end(self) -> Self:
        if self.expires_at is not None and self.days is not None:
            raise ValueError("give expires_at or days, not both")
        return self


class OrderDoctor(BaseModel):
    """`POST /v1/doctor`: `fix` repairs what is safe, `deep` reads every byte again."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fix: Annotated[bool, Field(strict=True)] = False
    deep: Annotated[bool, Field(strict=True)] = False


class CallDoctor(BaseModel):
    """What the doctor's function is invoked with: an examination to make `now`, or one to go on with.

    A schedule sends neither, and fields of its own: then it is the oldest examination that is not done.
    """

    model_config = ConfigDict(frozen=True)

    now: bool = False
    fix: bool = False
    deep: bool = False
    doctor_id: UUID | None = None


# Spelled out: clients import this module, and have no use for the tables that define both.
_Sort = Literal["-created", "created", "name", "-name", "-updated", "updated"]
_Status = Literal["pending", "validating", "storing", "parsing", "ready", "error", "deleting"]
_Words = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,200}$")]
_Moment = Annotated[
    AwareDatetime,
    Field(ge=datetime(1970, 1, 1, tzinfo=UTC), lt=datetime(3000, 1, 1, tzinfo=UTC)),
    AfterValidator(lambda moment: moment.astimezone(UTC)),
]
_Extension = Annotated[
    str,
    StringConstraints(pattern=r"^\.?[^.\x00-\x1f\x7f]{1,32}$"),
    AfterValidator(lambda text: f".{text.removeprefix('.').upper()}"),
]


class FindPackages(BaseModel):
    """The query string of `GET /v1/packages`: packages that match every given field, and their order."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sort: Annotated[_Sort, Field(description="the order; a minus means downwards")] = "-created"
    status: Annotated[_Status | None, Field(description="the state")] = None
    platform: Annotated[_Words | None, Field(description="the platform")] = None
    machine: Annotated[_Words | None, Field(description="`machine_type`, in any case")] = None
    controller: Annotated[_Words | None, Field(description="`controller_type`, in any case")] = None
    extension: Annotated[
        _Extension | None, Field(description="packages with such a file; in any case, with or without dot")
    ] = None
    name: Annotated[_Words | None, Field(description="how the name begins, in any case")] = None
    sha256: Annotated[
        Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{64}$", to_lower=True)] | None,
        Field(description="the SHA-256 of the archive"),
    ] = None
    created_since: Annotated[_Moment | None, Field(description="the first moment that matches")] = None
    created_until: Annotated[_Moment | None, Field(description="the first moment that no longer does")] = None


class HowToStore(BaseModel):
    """The query string of both uploads."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    allow_duplicate: Annotated[bool, Field(description="store also what is there already")] = False


# -- answers


class UploadForm(_Model):
    """A presigned POST: send `fields` and then the file, as multipart/form-data, to `url`."""

    url: str
    fields: dict[str, str]
    expires_at: datetime
    max_bytes: int


class Accepted(_Model):
    """A package was taken in and will be ingested."""

    package_id: UUID
    job_id: UUID
    status: str


class AcceptedWithForm(Accepted):
    """A package was announced; its bytes are still to come."""

    upload: UploadForm


class Duplicate(_Model):
    """The very bytes are a `ready` package already, so nothing was stored: both ids are that package's."""

    package_id: UUID
    duplicate_of: UUID
    status: str


class Replays(_Model):
    """`POST /v1/replays`: the packages that were started anew. As many as `limit`: there may be more."""

    packages: list[UUID]
    count: int


class DeletionView(_Model):
    """`DELETE /v1/packages/{id}` while work remains."""

    package_id: UUID
    status: str


class KeyView(_Model):
    """An API key, without the key. `prefix` is how it begins; one with `revoked_at` is not let in."""

    id: UUID
    prefix: str
    client_name: str
    scopes: list[str]
    created_at: datetime
    last_used_at: datetime | None
    expires_at: datetime | None
    revoked_at: datetime | None


class KeyList(_Model):
    """One page of keys, newest first."""

    keys: list[KeyView]
    count: int
    next_cursor: str | None


class MintedKey(KeyView):
    """`POST /v1/keys`: the one time that `key` is shown."""

    key: Annotated[str, Field(repr=False)]


class BundleView(_Model):
    """The package as one ZIP: `building` or `built`."""

    package_id: UUID
    status: str


class ProblemView(_Model):
    """One finding in a package."""

    code: str
    severity: str
    member: str | None
    message: str
    detail: str | None
    hint: str | None


class CheckView(_Model):
    """What would be found in a package, as far as names and sizes tell; `name` is what it would be called."""

    accepted: bool
    name: str | None
    problems: list[ProblemView]


class Progress(_Model):
    """How far a package is, in files and (uncompressed) bytes; the totals are known while they are stored.

    `bytes_received` is the size of the archive, once it has landed.
    """

    files_stored: int
    files_total: int | None
    bytes_stored: int
    bytes_total: int | None
    bytes_received: int | None


class StatusView(_Model):
    """`GET /v1/packages/{id}/status`."""

    package_id: UUID
    job_id: UUID | None
    status: str
    error_code: str | None
    error_message: str | None
    error_detail: str | None
    file_count: int
    section_count: int | None
    problem_count: int
    problems: list[ProblemView]
    progress: Progress
    updated_at: datetime


class PackageSummary(_Model):
    """A package as lists show it."""

    id: UUID
    name: str
    platform: str
    status: str
    machine_type: str | None
    controller_type: str | None
    error_code: str | None
    error_message: str | None
    file_count: int
    section_count: int | None
    size_bytes: int | None
    content_hash: str | None
    duplicate_of: UUID | None
    created_at: datetime
    updated_at: datetime
    ready_at: datetime | None


class PackageList(_Model):
    """One page of packages; `count` is the number on this page."""

    packages: list[PackageSummary]
    count: int
    next_cursor: str | None


class FileView(_Model):
    """A stored file; `content_hash` is the SHA-256 of its bytes in hex."""

    id: UUID
    filename: str
    original_path: str
    file_extension: str
    size_bytes: int
    content_hash: str
    created_at: datetime


class FileList(_Model):
    """One page of a package's files, by name."""

    files: list[FileView]
    count: int
    next_cursor: str | None


class ProblemList(_Model):
    """One page of a package's findings."""

    problems: list[ProblemView]
    count: int
    next_cursor: str | None


class RunView(_Model):
    """One job of a package."""

    id: UUID
    attempt: int
    trigger: str
    status: str
    started_at: datetime | None
    finished_at: datetime | None
    files: int | None
    bytes: int | None
    error_code: str | None
    error_message: str | None
    request_id: str | None


class PackageDetail(PackageSummary):
    """`GET /v1/packages/{id}`: the package, the first of its files, findings and jobs, and totals."""

    error_detail: str | None
    job_id: UUID | None
    source_key: str
    created_by: str | None
    problem_count: int
    run_count: int
    files: list[FileView]
    problems: list[ProblemView]
    runs: list[RunView]


class DoctorAccepted(_Model):
    """An examination was asked for; it begins within a minute."""

    doctor_id: UUID
    status: str


class DoctorFinding(_Model):
    """One disagreement between the store and the records; `fix` is what can be done about it."""

    kind: str
    bucket: str
    key: str
    package_id: UUID | None
    detail: str
    fix: str | None
    fixed: bool


class DoctorLookedAt(_Model):
    """What an examination has looked at so far."""

    objects: int
    rows: int
    originals: int
    packages: int


class DoctorNotCompared(_Model):
    """What has no checksum of its own that S3 could tell without its bytes being read."""

    files: int
    originals: int


class DoctorView(_Model):
    """`GET /v1/doctor/{id}`: `queued` (and at which `step`) until it is `done`. `error`: given up before."""

    doctor_id: UUID
    status: str
    step: str | None
    fix: bool
    deep: bool
    created_at: datetime
    finished_at: datetime | None
    error: str | None
    looked_at: DoctorLookedAt
    left_alone: int
    not_compared: DoctorNotCompared
    found: int
    fixed: int
    counts: dict[str, int]
    findings: list[DoctorFinding]
    truncated: bool


class Health(_Model):
    """`GET /v1/health`: `ok` or `down`, in all and part by part."""

    status: str
    database: str
    storage: str
    version: str


class ErrorBody(_Model):
    """Every error: `code` is stable, `message` friendly, `detail` technical."""

    code: str
    message: str
    detail: str | None
    request_id: str | None
    problems: list[ProblemView] | None = None


def problems_of(stored: list[dict[str, Any]], *, start: int = 0, limit: int) -> list[ProblemView]:
    """Return a slice of the findings in a package's row."""
    return [ProblemView.model_validate(problem) for problem in stored[start : start + limit]]
