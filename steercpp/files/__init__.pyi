from .claims import NO_LOCKS, claim, has_ended
from .draft import TEMPORARY, Draft
from .fences import check_fences, fenced
from .leftovers import remove_leftovers
from .places import probe, refuse_overwrite
from .swaps import is_replaced, recover, take_places, why_kept
from .writing import adopt, replacing, write_atomically, write_together, write_whole

__all__ = [
    "NO_LOCKS",
    "TEMPORARY",
    "Draft",
    "adopt",
    "check_fences",
    "claim",
    "fenced",
    "has_ended",
    "is_replaced",
    "probe",
    "recover",
    "refuse_overwrite",
    "remove_leftovers",
    "replacing",
    "take_places",
    "why_kept",
    "write_atomically",
    "write_together",
    "write_whole",
]
