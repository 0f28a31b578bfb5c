"""The table of platforms: each is data, so the engine has no branch for any of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Platform:
    """What a package of one platform may and must contain.

    `extensions` and `required` hold upper-case extensions with their dot; the comparison ignores
    case. `name_extension` is the extension whose first file (by case-folded path) names the package.
    """

    key: str
    label: str
    extensions: frozenset[str]
    required: frozenset[str]
    name_extension: str


CAMWORKS = Platform(
    key="camworks",
    label="CAMWorks post processor",
    extensions=frozenset({".SRC", ".LIB", ".CTL", ".KIN", ".ATR", ".PINF", ".LNG"}),
    required=frozenset({".SRC"}),
    name_extension=".SRC",
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
