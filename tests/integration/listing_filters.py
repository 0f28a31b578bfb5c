"""The filters that the tests of the list try, for packages as `bench.listing.fill` makes them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from veripost.models import Status
from veripost.queries import PackageFilter


def minute(number: int) -> datetime:
    """When the package of this number was created."""
    return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=number)


# What narrows the list down to a share of all packages; these have an index for each order.
ORDERED: Mapping[str, PackageFilter] = {
    "all": PackageFilter(),
    "status, most": PackageFilter(status=Status.READY),
    "status, some": PackageFilter(status=Status.ERROR),
    "status, the 20 oldest": PackageFilter(status=Status.STORING),
    "status, none": PackageFilter(status=Status.DELETING),
    "platform, most": PackageFilter(platform="camworks"),
    "platform, few": PackageFilter(platform="other"),
    "platform, none": PackageFilter(platform="nobody"),
    "machine": PackageFilter(machine="MILL 7"),
    "machine, rare": PackageFilter(machine="rare 5x"),
    "controller": PackageFilter(controller="fanuc 3"),
}
# What names few packages, or a range of something else than the order.
OTHERS: Mapping[str, PackageFilter] = {
    "extension, all": PackageFilter(extension=".SRC"),
    "extension, a third": PackageFilter(extension=".KIN"),
    "extension, rare": PackageFilter(extension=".CNF"),
    "extension, none": PackageFilter(extension=".XYZ"),
    "name, long prefix": PackageFilter(name="post_h_12"),
    "name, short prefix": PackageFilter(name="Post_H"),
    "name, all": PackageFilter(name="p"),
    "sha256": PackageFilter(sha256=hashlib.sha256(b"77").hexdigest()),
    "since, few": PackageFilter(created_since=minute(99_000)),
    "since, half": PackageFilter(created_since=minute(50_000)),
    "until, few": PackageFilter(created_until=minute(1_000)),
    "a range": PackageFilter(created_since=minute(40_000), created_until=minute(42_000)),
    "a machine's errors": PackageFilter(status=Status.ERROR, machine="Mill 3"),
    "much at once": PackageFilter(status=Status.READY, platform="camworks", name="post_a", extension=".KIN"),
}
