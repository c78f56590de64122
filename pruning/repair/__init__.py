"""One file per repair: what mends a network after a cut, without training."""

from prunepolicy.pruning.repair.registry import Patient, Repair, repair, repairs

__all__ = ["Patient", "Repair", "repair", "repairs"]
