"""Where programs of the bench run, and what they see of the environment."""

from __future__ import annotations

import os
from typing import Final

from localcloud.bootstrap import LOCAL, ROOT, clean_environment

__all__ = ["CACHE", "ROOT", "environment"]

_LAYER: Final = ROOT / "layers" / "common"
CACHE: Final = LOCAL / "bench"
"""Where generated archives stay from run to run."""


def environment(**extra: str) -> dict[str, str]:
    """Return ours for a child: our code on the path, credentials that work nowhere, and no proxy.

    `BENCH_LAYER` names another copy of `layers/common`, to measure one version beside another.
    """
    kept = {
        name: value
        for name, value in clean_environment(os.environ).items()
        if not name.startswith("AWS_") and not name.lower().endswith("_proxy")
    }
    return kept | {
        "PYTHONPATH": os.pathsep.join([os.environ.get("BENCH_LAYER") or str(_LAYER), str(ROOT)]),
        "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": "bench",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        **extra,
    }
