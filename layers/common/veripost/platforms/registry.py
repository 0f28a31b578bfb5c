"""The table of platforms: each is data and a reader, so the engine has no branch for any of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from veripost.platforms.facts import Reader

OS_LITTER = frozenset({".ds_store", "thumbs.db", "desktop.ini"})
"""Files that operating systems add by themselves."""


@dataclass(frozen=True, slots=True)
class Platform:
    """What a package of one platform may and must contain, and how its files are read.

    `extensions` and `required` hold upper-case extensions with their dot; the comparison ignores
    case. `name_extension` is the extension whose first file (by case-folded path) names the package.
    Files called as `skipped` says (in lower case) are left out with a notice. `encoding` is what text
    files are written in. `load_reader` returns the parsers: only ingestion calls it.
    """

    key: str
    label: str
    extensions: frozenset[str]
    required: frozenset[str]
    name_extension: str
    skipped: frozenset[str] = OS_LITTER
    encoding: str = "utf-8"
    load_reader: Callable[[], Reader] = Reader


def _camworks_reader() -> Reader:
    from veripost.platforms import camworks_reader  # parsers that the API's functions never need

    return camworks_reader.READER


CAMWORKS = Platform(
    key="camworks",
    label="CAMWorks post processor",
    extensions=frozenset({".SRC", ".LIB", ".CTL", ".KIN", ".ATR", ".PINF", ".LNG"}),
    required=frozenset({".SRC"}),
    name_extension=".SRC",
    encoding="cp1252",
    load_reader=_camworks_reader,
)

PLATFORMS: Mapping[str, Platform] = MappingProxyType({CAMWORKS.key: CAMWORKS})
DEFAULT_PLATFORM = CAMWORKS.key


def find(key: str, extra_extensions: Iterable[str] = ()) -> Platform | None:
    """Return the platform `key`, or None.

    `extra_extensions` are pairs such as `camworks:.CNF`: file types to accept beyond the platform's own.
    """
    platform = PLATFORMS.get(key)
    if platform is None:
        return None
    pairs = (pair.partition(":") for pair in extra_extensions)
    extra = {extension.upper() for owner, _, extension in pairs if owner == key}
    return replace(platform, extensions=platform.extensions | extra)
