"""From the name of a cluster to the runner that works there; Ray is imported only where it is asked for."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prunepolicy.agents.runtime.fault_tolerant_runner import FaultTolerantRunner, RetryPolicy
from prunepolicy.agents.runtime.process_pool import ProcessPool
from prunepolicy.agents.runtime.runner import LocalRunner, Runner
from prunepolicy.agents.runtime.settings import ClusterSettings, load_settings
from prunepolicy.pruning.errors import MissingExtraError


@contextmanager
def open_runner(
    cluster: str | ClusterSettings | None, note: Callable[[str], None] = print
) -> Iterator[Runner]:
    """Yield what carries out work until the context ends.

    Args:
        cluster: settings, their name or file; None works in this process.
        note: is called with what happens to workers.

    Raises:
        PrunePolicyError: when Ray is missing, or there is no such cluster, or no room in it.
    """
    if cluster is None:
        yield LocalRunner()
        return
    settings = load_settings(cluster) if isinstance(cluster, str) else cluster
    retry_policy = RetryPolicy(settings.deadline, settings.attempts, settings.start)
    if settings.runner == "processes":
        pool = ProcessPool(settings.workers or os.cpu_count() or 1, settings.threads)
        note(f"{pool.size} processes")
        with FaultTolerantRunner(pool, retry_policy, note) as runner:
            yield runner
        return
    if settings.address == "local":
        _guard()
    try:
        from prunepolicy.agents.runtime.ray_connection import connected
        from prunepolicy.agents.runtime.ray_pool import RayPool
    except ImportError as error:
        raise MissingExtraError("A Ray cluster needs", "cluster") from error
    with (
        connected(settings.address),
        FaultTolerantRunner(RayPool(settings, note), retry_policy, note) as runner,
    ):
        yield runner


def _guard() -> None:
    """Let a cluster that is started here obey only who knows a secret, and report nothing to anybody.

    The secret lives in the environment of this process and its workers. Ray reads it when it is imported;
    where that has happened, it makes a secret of its own.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if "RAY_AUTH_MODE" not in os.environ and "ray" not in sys.modules:
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
