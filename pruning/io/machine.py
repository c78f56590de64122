"""What this machine is and has: names for reports, free and peak memory."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

import torch

GIB = 2**30


def available_memory() -> int | None:
    """Return the bytes a new process may use without swapping, or None where nobody can tell."""
    amounts = (_system_memory(), _container_memory(), _process_memory())
    return min((amount for amount in amounts if amount is not None), default=None)


def _system_memory() -> int | None:
    for line in _lines(Path("/proc/meminfo")):
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _container_memory() -> int | None:
    """Return what a version-2 control group leaves, when it sets a limit."""
    limit = "".join(_lines(Path("/sys/fs/cgroup/memory.max")))
    if not limit.isdigit():
        return None
    # Only anonymous pages count: the rest of what the group holds is file cache, given up on demand.
    held = [
        int(line.split()[1])
        for line in _lines(Path("/sys/fs/cgroup/memory.stat"))
        if line.startswith("anon ")
    ]
    return int(limit) - sum(held)


def _process_memory() -> int | None:
    """Return what the limits of this process leave (`ulimit -d`, `ulimit -v`), where there are any."""
    try:
        import resource
    except ImportError:  # Windows has no such module.
        return None
    left = []
    for limit, held in ((resource.RLIMIT_DATA, "VmData:"), (resource.RLIMIT_AS, "VmSize:")):
        most, _ = resource.getrlimit(limit)
        used = [int(line.split()[1]) for line in _lines(Path("/proc/self/status")) if line.startswith(held)]
        if most != resource.RLIM_INFINITY and used:
            left.append(max(0, most - used[0] * 1024))
    return min(left, default=None)


def peak_memory(device: torch.device) -> int | None:
    """Return the most bytes held so far: by tensors on a GPU, by this whole process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    # What getrusage says on Linux starts at the parent's size, because it outlives exec.
    for line in _lines(Path("/proc/self/status")):
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return _most_resident()


def _most_resident() -> int | None:
    try:
        import resource
    except ImportError:  # Windows has no such module.
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def device_name(device: torch.device) -> str:
    """Return the name of the processor behind `device`, as its maker calls it."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    for line in _lines(Path("/proc/cpuinfo")):
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def cpu_flags() -> frozenset[str]:
    """Return the instruction sets the CPU announces; empty where the system doesn't list them."""
    for line in _lines(Path("/proc/cpuinfo")):
        if line.startswith("flags"):
            return frozenset(line.split(":", 1)[1].split())
    return frozenset()


def versions(*packages: str) -> dict[str, str]:
    """Return the versions of Python and of those `packages` that are installed."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def own_version() -> str:
    """Return the version of this package, as it was installed."""
    return versions("prunepolicy").get("prunepolicy", "0")


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
