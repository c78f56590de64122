"""Which files may leave this machine with a job: an allow list, so that what it forgets stays here."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from fnmatch import fnmatchcase
from importlib.resources import files
from pathlib import Path
from typing import get_args

from prunepolicy.policy.zoo.index import FileName
from prunepolicy.policy.zoo.zoo_handle import INDEX
from prunepolicy.pruning.errors import UsageError

PACKAGE = "prunepolicy"
PARTS = ("agents", "configs", "envs", "metanet", "policy", "pruning")
"""Packages in this one, which may lie elsewhere than below it."""
CODE = ("*.py", "py.typed")
DATA = {"configs/": ("*.yaml",), "policy/shipped/": (*get_args(FileName), INDEX)}
"""What else the package holds, by the beginnings of paths."""
MODEL = (
    "*.safetensors",
    "*.safetensors.index.json",
    "*.gguf",
    "*.py",
    "config.json",
    "generation_config.json",
    "adapter_config.json",
    "tokenizer*.json",
    "vocab*.json",
    "vocab.txt",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "*.model",
    "*.tiktoken",
    "*.jinja",
    "chat_template.json",
    "preprocessor_config.json",
    "processor_config.json",
    "image_processor_config.json",
)
"""Weights, configuration, tokenizer and code of a model, by the names that transformers gives them."""
IMAGES = ("*-idx?-ubyte", "*-idx?-ubyte.gz", "data_batch_*.bin", "test_batch.bin")
"""IDX files and CIFAR-10's binary version."""
NAMED = (*MODEL, *get_args(FileName), *IMAGES)
"""What goes of a folder that a recipe names."""


def project_files() -> dict[Path, Path]:
    """Return this package's modules and data: place in the job's folder to the file here."""
    found = {file.name: file for file in Path(str(files(PACKAGE))).iterdir() if _fits(file.name, CODE)}
    for part in PARTS:
        home = Path(str(files(f"{PACKAGE}.{part}")))
        for file in _walked(home):
            name = f"{part}/{file.relative_to(home).as_posix()}"
            data = next((names for start, names in DATA.items() if name.startswith(start)), ())
            if _fits(file.name, (*CODE, *data)) and not file.is_symlink():
                found[name] = file
    return {Path(PACKAGE, name): file for name, file in found.items()}


def named_files(root: Path, name: str, allowed: Collection[str] = NAMED) -> dict[Path, Path]:
    """Return what goes of a file or folder that a recipe or the user names: place in `root` to the file.

    A file goes as it is, of a folder what `allowed` matches; nothing hidden that isn't named itself.

    Raises:
        UsageError: when it lies outside `root`, or a link leads to something that wouldn't go itself.
    """
    place = root / name
    whole = _inside(place, root)
    if not whole.is_dir():
        return {Path(name): whole}
    going = (file for file in _walked(place) if _fits(file.name, allowed))
    return {file.relative_to(root): _followed(file, whole, allowed) for file in going}


def _inside(place: Path, root: Path) -> Path:
    """Return where something really lies."""
    if ".." in place.parts or not place.is_relative_to(root):
        raise UsageError(f"{place} lies outside the working directory; a job can't take it along.")
    found = _resolved(place)
    if not found.is_relative_to(root) or (found != place and _hidden(found.relative_to(root))):
        raise UsageError(f"{place} is a link to {found}, which a job doesn't take along; put a copy there.")
    return found


def _followed(file: Path, folder: Path, allowed: Collection[str]) -> Path:
    """Return the file itself, or the one a link leads to where that would go under its own name, too."""
    found = _resolved(file)
    inside = found.is_relative_to(folder) and not _hidden(found.relative_to(folder))
    if not inside or not _fits(found.name, allowed):
        raise UsageError(f"{file} is a link to {found}, which a job doesn't take along; put a copy there.")
    return found


def _resolved(place: Path) -> Path:
    try:
        found = place.resolve(strict=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise UsageError(f"{place} is missing, or a link that leads nowhere.") from error
    if not found.is_dir() and not found.is_file():
        raise UsageError(f"{place} is neither a file nor a folder, so it can't be sent.")
    return found


def _walked(folder: Path) -> Iterator[Path]:
    """Yield what lies in a folder and its subfolders but hidden things; links to folders aren't entered."""
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__pycache__")))
        yield from (Path(place, name) for name in sorted(names) if not name.startswith("."))


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _fits(name: str, patterns: Collection[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
