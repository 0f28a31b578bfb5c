"""The doctor: compares what is stored with what is recorded, in both directions, and repairs what is safe.

`files`, `originals` and `leftovers` look, one page at a time; `runs` carries an examination from page to page
and from one minute to the next. `docs/doctor.md` says what each finding means.
"""

from veripost.upkeep.doctor.findings import Finding, Fix, Kind, Report
from veripost.upkeep.doctor.runs import attend, called, order, view
from veripost.upkeep.doctor.setting import DoctorConfig, config_of

__all__ = [
    "DoctorConfig",
    "Finding",
    "Fix",
    "Kind",
    "Report",
    "attend",
    "called",
    "config_of",
    "order",
    "view",
]
