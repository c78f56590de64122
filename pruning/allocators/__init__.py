"""One file per allocator: from scores and a budget to what stays."""

from prunepolicy.pruning.allocators.registry import Allocator, Task, allocate, allocator, allocators

__all__ = ["Allocator", "Task", "allocate", "allocator", "allocators"]
