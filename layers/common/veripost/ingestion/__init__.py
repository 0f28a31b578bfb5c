"""Ingestion: from an object that landed to a record that is `ready` (or refused with every reason).

`events` reads what S3 says, `jobs` decides whose turn it is and writes the outcome, `pipeline` moves bytes.
"""

from veripost.ingestion.events import LandedObject, MalformedEvent, landed_objects
from veripost.ingestion.jobs import IngestConfig, Outcome, config_of, ingest

__all__ = [
    "IngestConfig",
    "LandedObject",
    "MalformedEvent",
    "Outcome",
    "config_of",
    "ingest",
    "landed_objects",
]
