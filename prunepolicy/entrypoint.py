"""Entry point of the programs: run a command, turn errors into one sentence and an exit code."""

from __future__ import annotations

import logging
import os
import re
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Any

from prunepolicy.pruning.errors import MissingExtraError, UsageError, redacted
from prunepolicy.pruning.io.cache import spare_libraries
from prunepolicy.pruning.io.console import Console, styled

LOG_WIDTH = 140
"""Columns where the output is a file, which has no width of its own."""


def console_for(stderr: bool = False) -> Console:
    """Return a console that is as wide as its terminal, or wide enough for tables in a log."""
    console = Console(stderr=stderr)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = LOG_WIDTH
    return console


error_console = console_for(stderr=True)
INTERRUPTED, TERMINATED = 130, 143
PATIENCE = "5000"
"""Rounds that a thread of torch's (OpenMP) spins for the others before it sleeps, where the user set nothing.

The default is sixty times as many. As soon as anything else runs on the machine, spinning takes the very
core that the other thread waits for, and small layers go ten to thirty times slower; alone on it, both go
equally fast.
"""
KNOWN = ("prunepolicy", "click", "typer")
"""Packages whose errors are already written for users."""


@dataclass
class _Invocation:
    """What this process was asked to do.

    Attributes:
        advice: how to go on from where that stopped; empty where nobody knows better than to ask again.
    """

    words: Sequence[str] = ()
    advice: str = ""


_invocation = _Invocation()


def run(command: Callable[..., Any], arguments: list[str] | None) -> int:
    """Run a command line application and return its exit code: 0 done, 1 failed, 2 wrong usage."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("GOMP_SPINCOUNT", PATIENCE)  # Read once, when torch is imported.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # It warns of folders that it can't write.
    spare_libraries()
    if not sys.stderr.isatty():  # Libraries' bars move the cursor, which a log shows as one endless line.
        os.environ.setdefault("TQDM_DISABLE", "1")
    _invocation.words, _invocation.advice = sys.argv[1:] if arguments is None else arguments, ""
    try:
        with _cleaning_up_at_the_end():
            status = command(args=arguments, standalone_mode=False)
        if status == INTERRUPTED:  # typer turns an interrupt into a returned code.
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        _say_how_to_go_on("Interrupted")
        return INTERRUPTED
    except SystemExit as exit_:
        if exit_.code == TERMINATED:
            _say_how_to_go_on("Terminated")
        return exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    except Exception as error:
        return _report(error)
    return status if isinstance(status, int) else 0


def invoked(*more: str) -> str:
    """Return the command line of this process, for a shell, with further words."""
    return redacted(shlex.join([Path(sys.argv[0]).name, *_invocation.words, *more]))


def invoked_without(flag: str, options: Sequence[str] = ()) -> str:
    """Return the command line of this process without a flag, and without options and their values."""
    words, left = iter(_invocation.words), []
    for word in words:
        if word in options:
            next(words, None)
        elif word != flag and not word.startswith(tuple(f"{option}=" for option in options)):
            left.append(word)
    return redacted(shlex.join([Path(sys.argv[0]).name, *left]))


@contextmanager
def continuing(how: Callable[[], str]) -> Iterator[None]:
    """Where the work stops before its end, let `how` say how it goes on; wrong requests don't."""
    try:
        yield
    except UsageError:
        raise
    except BaseException:
        _invocation.advice = how()
        raise


def _say_how_to_go_on(happened: str) -> None:
    _say(f"{happened}: {_invocation.advice or 'run the same command again, ' + invoked()}")


def _say(sentence: str) -> None:
    """Print a sentence with a command to be copied: neither wrapped nor coloured."""
    error_console.print(redacted(sentence), soft_wrap=True)


@contextmanager
def _cleaning_up_at_the_end() -> Iterator[None]:
    """Take SIGTERM, which schedulers send, for an exit, so that nothing half done is left lying about."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def present(result: Any, as_json: bool) -> None:
    """Print what a command found, for people or for programs."""
    if as_json:
        print(result.to_json(), end="")
    else:
        result.render(console_for())


def _report(error: Exception) -> int:
    """Print one sentence for whatever went wrong and return the exit code."""
    if os.environ.get("PRUNEPOLICY_DEBUG"):
        raise error
    code = int(getattr(error, "exit_code", 1))
    written_out = getattr(error, "format_message", None)  # Errors of the command line name their option.
    sentence = str(written_out() if written_out else error) or type(error).__name__
    extra = _extra_with((error.name or "").split(".")[0]) if isinstance(error, ModuleNotFoundError) else None
    if extra:
        sentence = str(MissingExtraError("This needs", extra))
    elif isinstance(error, OSError) and error.filename is not None and error.strerror:
        sentence = (
            f"Can't use {str(error.filename)!r}: {error.strerror}."  # A name too long, a link to itself.
        )
    elif type(error).__module__.split(".")[0] not in KNOWN:
        first = next(iter(sentence.strip().splitlines()), "").rstrip(".:")
        sentence = f"{type(error).__name__}: {first}. (PRUNEPOLICY_DEBUG=1 shows where.)"
    said = f"{sentence} {_invocation.advice}".rstrip()
    error_console.print(styled(("error: ", "red"), redacted(said)), soft_wrap=True)
    return code


def _extra_with(module: str) -> str | None:
    """Return the extra that installs a module, as this package's own requirements have it."""
    try:
        requirements = requires("prunepolicy") or ()
    except PackageNotFoundError:
        return None
    for requirement in requirements:
        found = re.match(r"""([\w.-]+).*extra == ['"](\w+)""", requirement)
        if found and found[1].lower().replace("-", "_") == module:
            return found[2]
    return None
