"""Work that can be imported by workers, and one Ray cluster for all tests."""

from __future__ import annotations

import os
import secrets
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

# Ray reads these when it is imported: the cluster of the tests obeys nobody else, and reports nothing.
os.environ |= {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
    "RAY_USAGE_STATS_ENABLED": "0",
}

WORK = '''
    """Jobs for workers; what is deadly is deadly once, until its flag is there."""

    import os
    import signal
    from pathlib import Path

    from prunepolicy.agents.runtime import Shared

    DRIVER = int(os.environ["TEST_DRIVER"])

    def once(flag, sign):
        """Send the worker's process a signal, the first time."""
        if not flag or os.getpid() == DRIVER:
            return
        try:
            Path(flag).touch(exist_ok=False)
        except FileExistsError:
            return
        os.kill(os.getpid(), sign)

    def square(job):
        number, flag, sign = job
        once(flag, sign)
        return number * number

    def deadly(job):
        os.kill(os.getpid(), signal.SIGKILL)

    def half(number):
        if number % 2:
            raise ValueError(f"{number} is odd")
        return number // 2

    def gpus(job):
        import ray
        return ray.get_runtime_context().get_accelerator_ids()["GPU"]

    def threads(job):
        import torch
        return torch.get_num_threads()

    class Adds:
        def __init__(self, table):
            self.table = table

        def __call__(self, number):
            return self.table.value[number], os.getpid(), len(Shared.here)

    class Rise:
        """A rise of the loss that takes its worker with it, once."""

        def __init__(self, flag):
            self.flag = flag

        def __call__(self, keep):
            once(self.flag, signal.SIGKILL)
            return 1 + sum(sum(ids) % 97 for ids in keep.values()) / 97
'''


@pytest.fixture(scope="session", autouse=True)
def _work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Make the module `cluster_work` importable, here and in workers."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "cluster_work.py").write_text(textwrap.dedent(WORK), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        root = Path(__file__).resolve().parents[3]
        patch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(root)]))
        patch.setenv("TEST_DRIVER", str(os.getpid()))
        patch.syspath_prepend(str(folder))
        yield
    sys.modules.pop("cluster_work", None)


@pytest.fixture(scope="session")
def cluster(_work: None) -> Iterator[None]:
    """A cluster on the loopback of this machine, with four cores and one GPU, or so it thinks."""
    import ray

    from prunepolicy.agents.runtime.ray_connection import connected

    with pytest.MonkeyPatch.context() as patch:
        init = ray.init
        patch.setattr(ray, "init", lambda **options: init(num_cpus=4, num_gpus=1, **options))
        with connected("local"):
            yield
