"""A run's metrics as TensorBoard reads them, beside the file that counts."""

from __future__ import annotations

import logging
import os
import platform
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)


class Events:
    """Writes scalars into a file of its own, in this thread: TensorBoard's own dies on a full disk.

    Where the file can't be written, a warning says so once, and the run goes on without.
    """

    def __init__(self, folder: Path) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event, self._folder, self._records = Event, folder, None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            name = f"events.out.tfevents.{int(time.time()):010d}.{platform.node()}.{os.getpid()}"
            self._records = RecordWriter(open(folder / f"{name}.{time.monotonic_ns()}", "xb"))
        except OSError as error:
            self._give_up(error)
        self._write(file_version="brain.Event:2")

    @classmethod
    def opened(cls, folder: Path, step: int) -> Events | None:
        """Return where to write what comes after `step`; None where tensorboard isn't installed.

        What earlier runs have written of later steps is void then.
        """
        with suppress(ImportError):
            events = cls(folder)
            if step:
                from tensorboard.compat.proto.event_pb2 import SessionLog

                events._write(step=step + 1, session_log=SessionLog(status=SessionLog.START))
            return events
        return None

    def add(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write the metrics of a step."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
        self._write(step=step, summary=Summary(value=values))

    def close(self) -> None:
        """Flush and close the file."""
        try:
            if self._records is not None:
                self._records.close()
        except OSError as error:
            self._give_up(error)

    def _write(self, **what: Any) -> None:
        try:
            if self._records is not None:
                self._records.write(self._event(wall_time=time.time(), **what).SerializeToString())
                self._records.flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self._records = None
        logger.warning("No TensorBoard events in %s from here on: %s.", self._folder, error.strerror or error)
