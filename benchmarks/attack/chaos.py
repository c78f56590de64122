"""What the attacks share: counts that a rerun continues, verdicts, tiny models, processes that may die."""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import signal
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import tokenizers
import torch
import transformers

from prunepolicy.pruning.adapters import adapter_for
from prunepolicy.pruning.errors import PrunePolicyError
from prunepolicy.pruning.io.atomic import write_text

RESULTS = Path(__file__).parents[1] / "results"
ACCEPTED, REFUSED, FAILED = "accepted", "refused", "failed"
LONGEST = 60
"""Seconds after which an attempt counts as hung; a busy machine takes two for the slowest."""
MOST_FAILURES = 200
"""Kept with their words; beyond them only the number counts."""


class HangError(BaseException):
    """Something took longer than it may; no handler of ours may swallow it."""


@dataclass
class Counts:
    """What came of every attempt so far, by case; the number of those tried is where a rerun goes on.

    Attributes:
        file: where they are kept.
        failures: what failed, with the number of the attempt, which makes it again.
    """

    file: Path
    rows: dict[str, dict[str, int]] = field(default_factory=dict)
    failures: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def open(cls, file: Path) -> Counts:
        """Return what an earlier run has left, or nothing."""
        known = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        return cls(file, known.get("rows", {}), known.get("failures", []))

    def tried(self, case: str) -> int:
        """Return how many attempts of a case there were."""
        return sum(self.rows.get(case, {}).values())

    @property
    def total(self) -> int:
        """All attempts."""
        return sum(map(self.tried, self.rows))

    @property
    def failed(self) -> int:
        """The number of failures."""
        return sum(row.get(FAILED, 0) for row in self.rows.values())

    def add(self, case: str, came: str, said: str = "") -> None:
        """Count one more attempt."""
        number = self.tried(case)
        row = self.rows.setdefault(case, {})
        row[came] = row.get(came, 0) + 1
        if came == FAILED and len(self.failures) < MOST_FAILURES:
            self.failures.append({"case": case, "number": number, "said": said[:500]})

    def retry(self, attempt: Callable[[str, int], tuple[str, str] | None]) -> None:
        """Do again what failed before, and count what comes of it now; None where a case isn't known."""
        before, self.failures = self.failures, []
        for one in before:
            came, said = attempt(one["case"], one["number"]) or (FAILED, one["said"])
            row = self.rows[one["case"]]
            row[FAILED] -= 1
            row[came] = row.get(came, 0) + 1
            if came == FAILED:
                self.failures.append({**one, "said": said[:500]})
            if not row[FAILED]:
                del row[FAILED]

    def save(self) -> None:
        """Write them."""
        data = {"rows": self.rows, "failures": self.failures}
        write_text(self.file, json.dumps(data, indent=1, sort_keys=True) + "\n")

    def __str__(self) -> str:
        lines = [
            f"{case:40} " + ", ".join(f"{n:,} {came}" for came, n in sorted(row.items()))
            for case, row in self.rows.items()
        ]
        lines += [f"FAILED {one['case']} {one['number']}: {one['said']}" for one in self.failures]
        return "\n".join([*lines, f"{self.total:,} tried, {self.failed:,} failed"])


def verdict(attempt: Callable[[], object]) -> tuple[str, str]:
    """Return whether an attempt was accepted, refused in one sentence, or failed, and what was said."""
    try:
        with limited():
            attempt()
    except PrunePolicyError as error:
        said = str(error)
        return (REFUSED if is_sentence(said) else FAILED), said
    except HangError:
        return FAILED, f"hangs: more than {LONGEST} seconds"
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # A panic of a library in Rust is no Exception.
        return FAILED, f"{type(error).__name__}: {error}"
    return ACCEPTED, ""


def is_sentence(said: str) -> bool:
    """Return whether text is one line that ends, and is short enough to be read."""
    return said.endswith((".", "?")) and "\n" not in said and len(said) < 2000


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield a folder that lasts as long as the block, in memory where there is such a place."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as scratch:
        apart(Path(scratch))
        yield Path(scratch)


@contextmanager
def limited(seconds: float = LONGEST) -> Iterator[None]:
    """Raise `HangError` when the block takes longer."""

    def late(*_: object) -> NoReturn:
        raise HangError

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@dataclass(frozen=True)
class End:
    """How a process ended.

    Attributes:
        status: its exit status; negative for the signal that killed it, None where it hung.
        said: what it wrote for its parent.
    """

    status: int | None
    said: str


def in_child(work: Callable[[], str], seconds: float = LONGEST) -> End:
    """Do work in a forked process, which ends with 0 and what it returns, or 1 and what it raised."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        os.write(writing, _worked(work))
        os._exit(0)
    os.close(writing)
    status = _waited(child, seconds)
    with open(reading, "rb") as pipe:
        came, _, said = pipe.read().decode(errors="replace").partition(" ")
    return End(int(came) if status == 0 else status, said)


def _worked(work: Callable[[], str]) -> bytes:
    try:
        text = f"0 {work()}"
    except PrunePolicyError as error:
        text = f"{error.exit_code} {error}"
    except BaseException as error:
        text = f"70 {type(error).__name__}: {error} {''.join(traceback.format_tb(error.__traceback__)[-2:])}"
    return text.encode(errors="replace")[:4000]


def _waited(child: int, seconds: float) -> int | None:
    end = time.monotonic() + seconds
    while True:
        pid, state = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(state)
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return None
        time.sleep(0.002)


def content(folder: Path) -> dict[str, str]:
    """Return the hashes of all files below a folder, and its empty folders, by path."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif path.is_dir() and not any(path.iterdir()):
            found[f"{name}/"] = ""
    return found


def tiny_model(folder: Path, max_shard_size: str = "1GB", **changes: Any) -> Path:
    """Write a LLaMA of two layers with random weights and a tokenizer of one token per byte."""
    adapter = adapter_for({"model_type": "llama"})
    sizes = {"vocab_size": 258, "num_hidden_layers": 2, "intermediate_size": 16, **changes}
    torch.manual_seed(0)
    model: Any = adapter.build({**adapter.tiny(), "model_type": "llama", **sizes})
    model.save_pretrained(folder, max_shard_size=max_shard_size)
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    words = {token: number for number, token in enumerate(["</s>", "<s>", *alphabet])}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(words, []))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    whole = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>"
    )
    whole.save_pretrained(folder)
    return folder


def apart(scratch: Path) -> None:
    """Keep this process away from the user's caches, settings and network, and on one thread."""
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    places: Mapping[str, str] = {
        "XDG_CACHE_HOME": str(scratch / "cache"),
        "XDG_CONFIG_HOME": str(scratch / "config"),
        "HF_HOME": str(scratch / "hf"),
        "MPLCONFIGDIR": str(scratch / "matplotlib"),
        "NO_PROXY": "*",
        "TQDM_DISABLE": "1",
    }
    os.environ.update(places)
    logging.getLogger("prunepolicy").setLevel(logging.ERROR)
    for name in ("HF_ASSETS_CACHE", "HF_HUB_OFFLINE", "PRUNEPOLICY_OFFLINE", "PRUNEPOLICY_ZOO"):
        os.environ.pop(name, None)


def arguments(description: str | None, name: str) -> argparse.Namespace:
    """Parse what all attacks take."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--seconds", type=float, default=600, help="how long to go on")
    parser.add_argument("--json", type=Path, default=RESULTS / f"{name}.json", help="counts, which go on")
    parser.add_argument("--only", help="the case to attack; all without it")
    return parser.parse_args()


def conclude(counts: Counts) -> NoReturn:
    """Print the counts, and exit with 1 where something failed."""
    counts.save()
    print(counts)
    raise SystemExit(counts.failed > 0)
