"""The table of platforms: each is data, so the engine has no branch for any of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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
