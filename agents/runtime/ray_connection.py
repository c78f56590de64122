"""Join a Ray cluster, or start one on this machine; what goes wrong is one sentence."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
import ray._private.worker
from packaging.version import Version
from ray._private import ray_constants
from ray.exceptions import RayError

from prunepolicy.pruning.errors import PrunePolicyError, UsageError

OLDEST = "2.52"
"""Before it, a web page could make a browser run code on a cluster (CVE-2025-62593)."""
SECONDS = 5.0
"""To reach an address."""
SETTINGS = bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""A frame of HTTP/2 by which both sides begin (RFC 9113, section 3.4); its fourth byte is its type."""
GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SETTINGS
LOOPBACK = "127.0.0.1"
"""For this address alone Ray's servers listen on the loopback; for any other they listen on all."""


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Be part of a cluster: one that the process has joined already, or of `address`.

    Args:
        address: `local` starts a cluster here, `auto` takes RAY_ADDRESS or the cluster that runs here.

    Raises:
        PrunePolicyError: when Ray is too old, or there is no such cluster.
    """
    if Version(ray.__version__) < Version(OLDEST):
        raise PrunePolicyError(
            f"Ray {ray.__version__} has a hole (CVE-2025-62593): pip install 'ray>={OLDEST}'."
        )
    if ray.is_initialized():
        yield
        return
    _silence_paragraphs()
    _start() if address == "local" else _join(address)
    try:
        yield
    finally:
        ray.shutdown()


def _start() -> None:
    """Start a cluster that listens on this machine's loopback alone, as far as Ray can."""
    with _no_other_machines():
        _init(
            address="local",
            include_dashboard=False,
            dashboard_host=LOOPBACK,
            _node_ip_address=LOOPBACK,
        )


@contextmanager
def _no_other_machines() -> Iterator[None]:
    """Keep Ray from replacing the loopback by an address that others reach; it does so on macOS by itself."""
    before = ray_constants.ENABLE_RAY_CLUSTER
    setattr(ray_constants, "ENABLE_RAY_CLUSTER", False)  # noqa: B010 (a constant by its type)
    try:
        yield
    finally:
        setattr(ray_constants, "ENABLE_RAY_CLUSTER", before)  # noqa: B010


def _join(address: str) -> None:
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS", "auto")
    if address.startswith(("http://", "https://")):
        raise UsageError(
            f"{address} takes jobs: prunepolicy submit RECIPE --address {address}. To join the cluster from "
            "one of its machines, set RAY_ADDRESS=HOST:6379."
        )
    if address != "auto":
        _check_speaks(address)
    try:
        _init(address=address)
    except ConnectionError as error:
        if address != "auto":
            raise PrunePolicyError(
                f"Can't join the Ray cluster at {address}: {_first_line(error)}"
            ) from error
        raise PrunePolicyError(
            "There is no Ray cluster to join: set RAY_ADDRESS=HOST:6379, or take --cluster local."
        ) from error


def _init(**options: Any) -> None:
    try:
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
    except (RayError, RuntimeError, ValueError) as error:
        raise PrunePolicyError(f"Ray refuses: {_first_line(error)}") from error


def check_reachable(address: str) -> None:
    """Raise `PrunePolicyError` unless something answers at HOST:PORT."""
    _connection(address).close()


def _check_speaks(address: str) -> None:
    """Raise `PrunePolicyError` unless HTTP/2 is spoken there: Ray would wait for minutes."""
    with _connection(address) as connection:
        if os.environ.get("RAY_USE_TLS", "0") != "0":
            return
        try:
            connection.sendall(GREETING)
            answer = connection.recv(len(SETTINGS))
        except OSError:
            answer = b""
    if answer[3:4] != SETTINGS[3:4]:
        raise PrunePolicyError(
            f"What answers at {address} isn't Ray. Its address is HOST:PORT as `ray start` said, often with "
            "port 6379; the dashboard's (8265) is for prunepolicy submit."
        )


def _connection(address: str) -> socket.socket:
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise UsageError(f"An address is HOST:PORT; got {address!r}.")
    try:
        return socket.create_connection((host, int(port)), SECONDS)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise PrunePolicyError(f"Nothing answers at {address}: {reason}.") from error


def _silence_paragraphs() -> None:
    """Keep Ray from printing a paragraph about every lost worker.

    It would go to standard output, where results for programs go; ours says the same in a sentence.
    """
    setattr(ray._private.worker, "print_to_stdstream", lambda *_, **__: None)  # noqa: B010 (has no type)


def _first_line(error: BaseException) -> str:
    words = next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".:")
    return f"{words}."
