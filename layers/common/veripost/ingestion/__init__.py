"""Ingestion: from an object that landed to a record that is `ready` (or refused with every reason).

`jobs` decides whose turn it is and writes the outcome, `pipeline` moves bytes.
"""

from veripost.ingestion.jobs import IngestConfig, Outcome, config_of, give_up, ingest

__all__ = [
    "IngestConfig",
    "Outcome",
    "config_of",
    "give_up",
    "ingest",
]
