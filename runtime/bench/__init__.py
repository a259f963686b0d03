"""What a bundle costs on this machine, and whether it costs more than it did: the library behind `emotag-bench`."""

from .gate import Baseline, Verdict, check, write_baseline
from .measure import Costs
from .probe import Probe
from .profile import Profile, profile

__all__ = [
    "Baseline",
    "Costs",
    "Probe",
    "Profile",
    "Verdict",
    "check",
    "profile",
    "write_baseline",
]
