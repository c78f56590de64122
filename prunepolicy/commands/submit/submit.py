"""Train on a cluster from any machine: pack, send, follow, and fetch what was learned."""

from __future__ import annotations

import os
import re
import secrets
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from prunepolicy.agents.training.recipe_file import load_recipe
from prunepolicy.commands.submit.package import LARGEST, MIB, JobPackage
from prunepolicy.pruning.errors import MissingExtraError, PrunePolicyError, UsageError, redacted
from prunepolicy.pruning.io.console import Console

if TYPE_CHECKING:
    from prunepolicy.commands.submit.ray_jobs import Jobs

FOLDERS = "~/.cache/prunepolicy/jobs"
"""On the head node; every run has a folder there, which outlives the job."""
REMEMBERED = 400
"""Characters of a log's end."""
RUN_ID = re.compile(r"[A-Za-z0-9_-]+-[0-9a-f]{8}")


@dataclass(frozen=True)
class Submission:
    """One training to be done elsewhere.

    Attributes:
        recipe: a file in the working directory.
        address: of the cluster's dashboard.
        overrides: of the recipe's keys.
        options: further ones of `prunepolicy train`.
        include: files and folders of the working directory that go along beside what the recipe names.
        resume: the run to continue; None begins one.
        learner_gpus: that the learner needs, beside those of its workers.
    """

    recipe: Path
    address: str
    overrides: Sequence[str] = ()
    options: Sequence[str] = ()
    include: Sequence[str] = ()
    resume: str | None = None
    learner_gpus: float = 0.0
    root: Path = field(default_factory=Path.cwd)

    @cached_property
    def run(self) -> str:
        """What the cluster calls the run: the recipe's name and something random."""
        if self.resume is not None:
            return checked_run(self.resume)
        return f"{re.sub(r'[^A-Za-z0-9_-]', '-', self.recipe.stem)}-{secrets.token_hex(4)}"

    @property
    def command(self) -> str:
        """What the head node's shell runs."""
        recipe = self._place(self.recipe).as_posix()
        sets = [word for override in self.overrides for word in ("--set", override)]
        words = ["prunepolicy", "train", recipe, *sets, *self.options, *(["--resume"] if self.resume else [])]
        return f"{shlex.join(words)} --out {place_of(self.run)}"

    @cached_property
    def package(self) -> JobPackage:
        """What is sent.

        Raises:
            UsageError: when the recipe, or something that it names, lies elsewhere.
            NotEnoughSpaceError: when it is too much.
        """
        recipe = load_recipe(self.recipe, self.overrides)
        go_along = [self._place(self.recipe), *(self._place(Path(name)) for name in self.include)]
        package = JobPackage.of(self.root, recipe, [place.as_posix() for place in go_along])
        package.check()
        return package

    def _place(self, path: Path) -> Path:
        """Return where something lies in the working directory."""
        place = Path(os.path.normpath(self.root / path))
        if not place.is_relative_to(self.root):
            raise UsageError(f"{path} lies outside the working directory; a job can't take it along.")
        return place.relative_to(self.root)

    def describe(self, console: Console, every: bool = False) -> None:
        """Say what is sent, the largest files or every one, and what the cluster does with it."""
        package, address = self.package, redacted(self.address)
        listed = list(package.files) if every else package.largest[:5]
        which = "all of them" if every else "the largest"
        lines = [f"{len(package.files)} files, {package.size:,} bytes, for {address}; {which}:"]
        lines += [f"  {package.bytes_of(file):12,}  {file}" for file in listed]
        if package.size > LARGEST / 2:
            lines.append(f"That is much: Ray takes {LARGEST / MIB:.0f} MiB.")
        if package.elsewhere:
            lines.append(f"The cluster has to have: {', '.join(package.elsewhere)}.")
        reserved = f" (the learner reserves {self.learner_gpus:g} GPUs)" if self.learner_gpus else ""
        _say(console, *lines, f"There: {self.command}{reserved}")

    def send(self, console: Console) -> str:
        """Submit, and return the name of the job."""
        job = f"{self.run}-{secrets.token_hex(2)}" if self.resume else self.run
        jobs_at(self.address).submit(self.package, self.command, job, self.learner_gpus)
        at = f"--address {redacted(self.address)}"
        _say(
            console,
            f"Job {job} is on its way. Its log: ray job logs {job} {at} --follow",
            f"What it has learned: prunepolicy fetch {self.run} {at}",
        )
        return job

    def follow(self, job: str, console: Console) -> None:
        """Write the log as it comes.

        Raises:
            PrunePolicyError: when the job doesn't end well.
        """
        log = _Log(console)
        ended = jobs_at(self.address).follow(job, log.write)
        if ended != "SUCCEEDED":
            raise PrunePolicyError(f"The job {job} ended as {ended.lower()}; its log ends with {log.last!r}.")

    def how_to_go_on(self, target: Path) -> str:
        """Return commands: what gets the run into `target`, and what continues a job that has ended."""
        at = ["--address", self.address]
        got = shlex.join(["prunepolicy", "fetch", self.run, *at, "--out", str(target)])
        sets = [word for override in self.overrides for word in ("--set", override)]
        along = [word for place in self.include for word in ("--include", place)]
        words = [str(self.recipe), *at, "--follow", "--out", str(target), *sets, *along, *self.options]
        again = shlex.join(["prunepolicy", "submit", *words, "--resume", self.run])
        return f"The run stays there. Get what there is with: {got}\nContinue it when its job ended: {again}"


@dataclass
class _Log:
    """Writes a log as it comes, and remembers its end."""

    console: Console
    end: str = ""

    def write(self, text: str) -> None:
        self.console.out(text, end="")
        self.end = (self.end + text)[-REMEMBERED:]

    @property
    def last(self) -> str:
        """Its last line with words."""
        return next((line.strip() for line in reversed(self.end.splitlines()) if line.strip()), "")


def fetch(run: str, address: str, target: Path) -> None:
    """Put the folder of a run on a cluster in the place of `target`.

    Raises:
        PrunePolicyError: when there is none, or `target` holds something else.
    """
    jobs = jobs_at(address)
    check_target(target)
    jobs.fetch(place_of(checked_run(run)), target)


def place_of(run: str) -> str:
    """Return the folder of a run, for a shell on the head node."""
    return f"{FOLDERS}/{run}/{run[:-9]}"


def checked_run(run: str) -> str:
    """Return `run`, or raise `UsageError` where it isn't the name of one."""
    if not RUN_ID.fullmatch(run):
        raise UsageError(
            f"{run!r} is no run on a cluster; `prunepolicy submit` printed its name, such as graph-1a2b3c4d."
        )
    return run


def check_target(target: Path) -> None:
    """Raise `UsageError` where a run folder would destroy something."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target} is not empty; choose another --out.")


def jobs_at(address: str) -> Jobs:
    """Return the jobs of a cluster."""
    try:
        from prunepolicy.commands.submit.ray_jobs import Jobs
    except ImportError as error:
        raise MissingExtraError("A Ray cluster needs", "cluster") from error
    return Jobs(address)


def _say(console: Console, *lines: str) -> None:
    for line in lines:
        console.print(line, soft_wrap=True)
