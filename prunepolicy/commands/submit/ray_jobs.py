"""Jobs of a Ray cluster: send a working directory and a command, follow the log, fetch a folder."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import secrets
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus, JobSubmissionClient

from prunepolicy.agents.runtime.files import write_folder
from prunepolicy.agents.runtime.ray_connection import check_reachable
from prunepolicy.commands.submit.dump_folder_script import MARK
from prunepolicy.commands.submit.package import JobPackage
from prunepolicy.pruning.errors import PrunePolicyError, UsageError
from prunepolicy.pruning.io.bounded import parsed_json
from prunepolicy.pruning.io.temporary import temporary_folder

SCRIPT = Path(__file__).with_name("dump_folder_script.py")
POLL = 1.0
RECONNECTIONS, ATTEMPTS = 20, 60
Write = Callable[[str], None]


@dataclass(frozen=True)
class Jobs:
    """The jobs of the cluster whose dashboard has `address`, as `http://HEAD:8265`.

    Raises:
        PrunePolicyError: when nothing answers there, or the cluster doesn't know us.
    """

    address: str

    @cached_property
    def client(self) -> JobSubmissionClient:
        """The connection."""
        parts = urlsplit(self.address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"Jobs go to http://HEAD:8265; got {self.address!r}.")
        check_reachable(f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}")
        try:
            return JobSubmissionClient(self.address)
        except (AuthenticationError, ConnectionError, RuntimeError) as error:
            raise self._refused(error) from error

    def submit(self, package: JobPackage, command: str, job: str, gpus: float = 0) -> None:
        """Send files and a command that runs among them; the job's name is `job`.

        Args:
            gpus: that the command itself needs, on whichever node has them; 0 runs it on the head node.
        """
        with temporary_folder() as staged:
            package.stage(staged)
            self._submit(command, job, {"working_dir": str(staged)}, gpus)

    def follow(self, job: str, write: Write) -> JobStatus:
        """Write the job's log as it comes, and return how it ended; connections that break are made anew."""
        written = 0
        for _ in range(RECONNECTIONS):
            try:
                written = asyncio.run(self._tail(job, write, written))
            except (RuntimeError, aiohttp.ClientError):
                time.sleep(POLL)
            if self._status(job).is_terminal():
                return self._status(job)
        raise PrunePolicyError(
            f"The connection to {self.address} breaks again and again; the job {job} goes on."
        )

    def fetch(self, place: str, target: Path) -> None:
        """Put a folder of the head node in the place of `target`, all or nothing.

        Raises:
            PrunePolicyError: when there is none, or it arrives damaged.
        """
        carrier = f"fetch-{secrets.token_hex(6)}"
        self._submit(shlex.join(["python", "-c", SCRIPT.read_text(encoding="utf-8"), place]), carrier, {})
        while not self._status(carrier).is_terminal():
            time.sleep(POLL)
        files = received(self.client.get_job_logs(carrier))
        if not files:
            raise PrunePolicyError(f"The head node has no folder {place}.")
        write_folder(target, files)

    def _submit(self, command: str, job: str, environment: dict[str, str], gpus: float = 0) -> None:
        for attempt in range(ATTEMPTS):
            try:
                self.client.submit_job(
                    entrypoint=command,
                    submission_id=job,
                    runtime_env=environment,
                    entrypoint_num_gpus=gpus or None,
                )
                return
            except (RuntimeError, ValueError, OSError) as error:
                # A cluster that has just started answers before its agents can take jobs.
                if "try again later" not in str(error) or attempt == ATTEMPTS - 1:
                    raise self._refused(error) from error
                time.sleep(POLL)

    def _status(self, job: str) -> JobStatus:
        try:
            return self.client.get_job_status(job)
        except (RuntimeError, OSError) as error:
            raise self._refused(error) from error

    async def _tail(self, job: str, write: Write, written: int) -> int:
        """Write what is new in the log, and return its length."""
        length = 0
        async for text in self.client.tail_job_logs(job):
            new = text[max(0, written - length) :]
            length += len(text)
            if new:
                write(new)
        return max(length, written)

    def _refused(self, error: Exception) -> PrunePolicyError:
        words = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__).rstrip(
            ".: "
        )
        hint = ""
        if isinstance(error, AuthenticationError) or "401" in words or "403" in words:
            hint = " Set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH=FILE to the cluster's token."
        return PrunePolicyError(f"{self.address} refuses: {words[:300]}.{hint}")


def received(log: str) -> dict[str, bytes]:
    """Return the files that `dump_folder_script` has printed.

    Raises:
        PrunePolicyError: when one is damaged or missing, or all of them are too large.
    """
    try:
        lines = [parsed_json(line[len(MARK) :]) for line in log.splitlines() if line.startswith(MARK)]
        if lines and "too_large" in lines[0]:
            raise PrunePolicyError(
                f"The folder has {int(lines[0]['too_large']):,} bytes, too many for a log: copy it by hand."
            )
        files = {line["name"]: base64.b64decode(line["data"]) for line in lines[:-1]}
        hashes = {line["name"]: line["sha256"] for line in lines[:-1]}
        whole = lines[-1]["files"] == len(files)
    except (LookupError, TypeError, ValueError):
        whole, files, hashes = False, {}, {}
    if not whole or any(hashlib.sha256(files[name]).hexdigest() != hashes[name] for name in files):
        raise PrunePolicyError("The folder arrived damaged; fetch it again.")
    return files
