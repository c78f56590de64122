"""What may still be used is what system, container and the process's own limits all leave."""

from __future__ import annotations

import resource

import pytest

from prunepolicy.pruning.io import machine

MIB = 2**20


def test_limits_of_the_process_count(monkeypatch: pytest.MonkeyPatch) -> None:
    status = {"/proc/meminfo": ["MemAvailable:  4194304 kB"], "/proc/self/status": ["VmData:  102400 kB"]}
    monkeypatch.setattr(machine, "_lines", lambda file: status.get(str(file), []))
    assert machine.available_memory() == 4096 * MIB
    limits = {resource.RLIMIT_DATA: 300 * MIB, resource.RLIMIT_AS: resource.RLIM_INFINITY}
    monkeypatch.setattr(resource, "getrlimit", lambda which: (limits[which], limits[which]))
    assert machine.available_memory() == 200 * MIB
    limits[resource.RLIMIT_DATA] = 50 * MIB
    assert machine.available_memory() == 0
