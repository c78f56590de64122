"""Texts of many kinds that lie where this package is installed: documentation, code, tables, prose."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from package_prose import documents

CHARACTERS = 60_000
"""Of one kind, more than are needed."""
LONGEST_LINE = 400
SPEECH = re.compile(r"[“\"]([^”\"]{12,400})[”\"]")


@dataclass(frozen=True)
class Files:
    """Files of one kind in an installed package.

    Attributes:
        pattern: of their paths in the package's folder.
        smallest: bytes that a file has at least.
    """

    package: str
    pattern: str
    smallest: int = 2000

    def texts(self) -> Iterator[str]:
        """Yield what they say, by path, without those that programs wrote in overlong lines."""
        spec = importlib.util.find_spec(self.package)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            for file in sorted(Path(folder).glob(self.pattern), key=Path.as_posix):
                if file.is_file() and file.stat().st_size >= self.smallest:
                    text = file.read_text(encoding="utf-8", errors="replace")
                    if max(map(len, text.splitlines()), default=0) <= LONGEST_LINE:
                        yield text


KINDS: dict[str, tuple[Files, ...]] = {
    "python": (Files("werkzeug", "**/*.py"),),
    "C": (Files("numpy", "_core/include/numpy/*.h", 8000),),
    "JavaScript": (
        Files("matplotlib", "backends/web_backend/js/*.js"),
        Files("importlinter", "ui/static/*.js"),
    ),
    "Fortran": (Files("numpy", "f2py/tests/src/**/*.f90", 300), Files("scipy", "**/*.f", 300)),
    "tables": (Files("pytz", "zoneinfo/zone1970.tab"),),
}


def kinds_of_text(prose: Path | None) -> dict[str, str]:
    """Return a text of every kind that is here.

    Args:
        prose: a file with stories; speeches are taken from its second half, narrative from its first.
    """
    found = {
        kind: _joined(text for files in parts for text in files.texts()) for kind, parts in KINDS.items()
    }
    found["docstrings"] = _joined(documents(("scipy",)))
    found["licences"] = _joined(_licences())
    if prose is not None:
        stories = prose.read_text(encoding="utf-8")
        half = len(stories) // 2
        found["stories"] = stories[:half]
        found["dialogue"] = "\n".join(
            f"- {' '.join(said.split())}" for said in SPEECH.findall(stories[half:])
        )
    return {kind: text for kind, text in found.items() if text}


def _licences() -> Iterator[str]:
    """Yield the different licences that installed distributions have beside their packages."""
    spec = importlib.util.find_spec("torch")
    packages = Path((spec.submodule_search_locations or [""])[0]).parent if spec else Path()
    seen: set[str] = set()
    for file in sorted(packages.glob("*.dist-info/**/LICENSE*"), key=Path.as_posix):
        text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
        key = " ".join(text.split())[200:600]
        if key and key not in seen:
            seen.add(key)
            yield text


def _joined(texts: Iterator[str]) -> str:
    """Return texts one after the other until there is enough."""
    parts: list[str] = []
    total = 0
    for text in texts:
        parts.append(text)
        total += len(text)
        if total >= CHARACTERS:
            break
    return "\n\n".join(parts)
