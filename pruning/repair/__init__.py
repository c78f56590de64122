"""One file per repair: what mends a network after a cut, without training."""

from prunepolicy.pruning.repair.registry import Repair, RepairContext, repair, repairs

__all__ = ["Repair", "RepairContext", "repair", "repairs"]
