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


class FindByName(BaseModel):
    """The query string of lists that a name narrows: sections, attributes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[_Words | None, Field(description="only those of this name, in any case")] = None


class Search(BaseModel):
    """The query string of `GET /v1/search`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    q: Annotated[_Words, Field(description="words, or how they begin; all of them must be in the name")]


class Compare(BaseModel):
    """The query string of `GET /v1/packages/{id}/diff/{other_id}`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    section: Annotated[
        _Words | None, Field(description="only sections of this name, with their unified diff")
    ] = None


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


class SectionSummary(_Model):
    """A section as lists show it: lines count from 1, and both ends belong to it."""

    id: UUID
    file_id: UUID
    filename: str
    ordinal: int
    kind: str
    name: str
    parameters: list[str]
    first_line: int
    last_line: int
    template_lines: int
    calculation_lines: int
    call_count: int


class SectionList(_Model):
    """One page of a package's sections, in the order of its files and their lines."""

    sections: list[SectionSummary]
    count: int
    next_cursor: str | None


class SectionDetail(SectionSummary):
    """`GET /v1/packages/{id}/sections/{section_id}`: the section with its lines.

    `truncated`: there are more lines, or longer ones, than one answer holds.
    """

    package_id: UUID
    calls: list[str]
    lines: list[str]
    truncated: bool


class AttributeView(_Model):
    """Something a file states by name; `details` are pairs of what else it says, the first 20."""

    file_id: UUID
    filename: str
    ordinal: int
    kind: str
    name: str
    value: str | None
    details: list[tuple[str, str | None]]
    first_line: int
    last_line: int


class AttributeList(_Model):
    """One page of what a package's files state, in their order."""

    attributes: list[AttributeView]
    count: int
    next_cursor: str | None


class MatchView(_Model):
    """Where a text matches: `ranges` are pairs of the first character and the one behind the last."""

    field: str
    text: str
    ranges: list[tuple[int, int]]


class HitView(_Model):
    """One place that a search found. `subject` is `package`, `section` or `attribute`."""

    subject: str
    package_id: UUID
    package_name: str
    platform: str
    status: str
    machine_type: str | None
    controller_type: str | None
    section_id: UUID | None
    filename: str | None
    line: int | None
    kind: str | None
    name: str
    value: str | None
    matches: list[MatchView]


class HitList(_Model):
    """One page of hits, the best first.

    `substrings`: parts of words were found, too; otherwise words and how they begin. `complete` is false
    where so many names match that only some of them were ranked.
    """

    hits: list[HitView]
    count: int
    next_cursor: str | None
    substrings: bool
    complete: bool


class SimilarPackage(_Model):
    """A package whose sections resemble those of another.

    `similarity` is the share of names and bodies of sections that both have, 1 where all are the same;
    `shared_names` and `shared_sections` are how many names, and how many bodies, line by line.
    """

    id: UUID
    name: str
    platform: str
    status: str
    machine_type: str | None
    controller_type: str | None
    section_count: int | None
    created_at: datetime
    similarity: float
    shared_names: int
    shared_sections: int


class SimilarList(_Model):
    """`GET /v1/packages/{id}/similar`. `method`: `vector` (by an index) or `exact` (each was looked at)."""

    packages: list[SimilarPackage]
    count: int
    method: Literal["vector", "exact"]


class Changes(_Model):
    """How many files, sections or attributes are in which way different, or the same."""

    added: int
    removed: int
    changed: int
    renamed: int
    same: int


class Difference(_Model):
    """One difference: `subject` is `file`, `section` or `attribute`.

    `change` is `added` (only the other package has it), `removed`, `changed`, or `renamed` (a file of the
    same bytes). `value` and `other_value` are hashes of files and values of attributes. `diff` is the unified
    diff of a section's lines, if it was asked for by name; `truncated`: there is more than it shows.
    """

    subject: str
    change: str
    kind: str
    name: str
    filename: str | None
    other_filename: str | None
    section_id: UUID | None
    other_section_id: UUID | None
    value: str | None
    other_value: str | None
    first_line: int | None
    last_line: int | None
    other_first_line: int | None
    other_last_line: int | None
    diff: str | None = None
    truncated: bool = False


class Comparison(_Model):
    """`GET /v1/packages/{id}/diff/{other_id}`: totals, and one page of the differences."""

    package_id: UUID
    other_id: UUID
    files: Changes
    sections: Changes
    attributes: Changes
    differences: list[Difference]
    count: int
    next_cursor: str | None


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
