"""Which files of a model folder belong to the model: one rule for what is fetched and what is copied."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from types import MappingProxyType

from prunepolicy.pruning.io import bounded

CARD = "README.md"
SOURCE_CARD = "README.source.md"
"""What the source's card is called in a folder that has a card of its own."""
WRITTEN_ABOUT = ("plan.json", "prune_report.json", "report.html", "layers.png", "before_after.png")
"""What is written about a pruning beside its result's card."""
MODULES = "modules.json"
ADAPTER = "adapter_config.json"
MODULE_NAME = re.compile(r"\w[\w.-]*", re.ASCII)

OTHER_WEIGHTS = "weights of another format, or a second copy"
TRAINING = "state of a training"
CACHE = "a cache, or hidden"
EVIDENCE = "about an earlier pruning"
LINK = "a link out of the folder"
LINKED_FOLDER = "a link to a folder"
SPECIAL = "no regular file"
LOCKED = "can't be read"

BEHIND: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        CACHE: (".*", "*/.*", "__pycache__/*", "*/__pycache__/*", "*.pyc", "*.lock", "*.incomplete"),
        TRAINING: (
            "checkpoint-*/*",
            "*/checkpoint-*/*",
            "global_step*/*",
            "runs/*",
            "wandb/*",
            "events.out.tfevents*",
            "*/events.out.tfevents*",
            "trainer_state.json",
            "*/trainer_state.json",
            "zero_to_fp32.py",
            "latest",
            "*training_args.bin",
            "*optimizer.bin",
            "*scheduler.bin",
            "*optimizer.pt",
            "*scheduler.pt",
            "*scaler.pt",
            "*rng_state*.pth",
            "*random_states_*.pkl",
        ),
        OTHER_WEIGHTS: (
            "*.bin",
            "*.bin.index.json",
            "*.pt",
            "*.pth",
            "*.ckpt",
            "*.pkl",
            "*.pickle",
            "*.h5",
            "*.h5.index.json",
            "*.keras",
            "*.msgpack",
            "*.msgpack.index.json",
            "*.ot",
            "*.onnx",
            "*.onnx_data*",
            "*.onnx.data",
            "*.gguf",
            "*.ggml",
            "*.tflite",
            "*.llamafile",
            "*.mlmodel",
            "*.nemo",
            "*.pdparams",
            "onnx/*",
            "openvino/*",
            "*openvino_*.xml",
            "coreml/*",
            "*.mlpackage/*",
            "original/*",
            "consolidated*",
            "saved_model/*",
            ADAPTER,
            "adapter_model*",
            "*/*.safetensors",
            "*/*.safetensors.index.json",
        ),
    }
)
"""Why files stay behind, to patterns of their paths, in which `*` stands for slashes, too."""
NOT_FETCHED = tuple(pattern for patterns in BEHIND.values() for pattern in patterns if pattern != ADAPTER)
"""The same patterns, as the hub's client takes them; an adapter says of which model it is one."""


@dataclass(frozen=True)
class SideFiles:
    """The files of a model folder beside configuration and weights.

    Attributes:
        travelling: path in another folder of the model, with slashes, to the file.
        behind: path of what isn't taken along, with a slash at the end of a folder's, to the reason.
    """

    travelling: Mapping[str, Path]
    behind: Mapping[str, str]


def reason_to_stay(path: str, modules: Collection[str] = ()) -> str | None:
    """Return why the file at `path` inside a model folder doesn't belong to the model; None where it does.

    Args:
        path: relative, with slashes.
        modules: folders of which all weights belong to the model.
    """
    folder = PurePosixPath(path).parts[0]
    for reason, patterns in BEHIND.items():
        if any(fnmatchcase(path.lower(), pattern) for pattern in patterns):
            return None if reason == OTHER_WEIGHTS and folder in modules else reason
    return None


def side_files(folder: Path, written: Collection[str]) -> SideFiles:
    """Divide what lies in `folder` into what travels with the model and what stays behind.

    Links to files are followed inside the folder, and from a snapshot of the hub's cache to the blobs of
    the same repository. Nothing but `modules.json` is opened.

    Args:
        written: configuration and weights, which whoever asks writes anew.
    """
    modules, homes = module_folders(folder), _homes(folder)
    travelling: dict[str, Path] = {}
    behind: dict[str, str] = {}
    carded = WRITTEN_ABOUT + ((CARD,) if (folder / SOURCE_CARD).is_file() else ())
    for path in _paths(folder, modules, behind):
        if path in written:
            continue
        reason = EVIDENCE if path in carded else reason_to_stay(path, modules)
        if "/" not in path and path.lower().endswith(".safetensors"):
            reason = OTHER_WEIGHTS
        reason = reason or _unfit(folder / path, homes)
        if reason is None:
            travelling[SOURCE_CARD if path == CARD else path] = folder / path
        else:
            behind[path] = reason
    return SideFiles(travelling, behind)


def module_folders(folder: Path) -> tuple[str, ...]:
    """Return the folders that `modules.json` names, as sentence embeddings have them."""
    file = folder / MODULES
    try:
        modules = bounded.read_json(file)
    except (OSError, ValueError):
        return ()
    listed = modules if isinstance(modules, list) else []
    named = [module.get("path") for module in listed if isinstance(module, dict)]
    return tuple(name for name in named if isinstance(name, str) and MODULE_NAME.fullmatch(name))


def _paths(folder: Path, modules: Collection[str], behind: dict[str, str]) -> Iterator[str]:
    """Yield the paths of all files; folders of which nothing travels are noted in `behind` instead."""
    for place, folders, files in os.walk(folder):
        inside = Path(place).relative_to(folder)
        for name in sorted(folders):
            path = (inside / name).as_posix()
            is_link = (folder / path).is_symlink()
            reason = LINKED_FOLDER if is_link else reason_to_stay(f"{path}/*", modules)
            if reason is not None:
                behind[f"{path}/"] = reason
                folders.remove(name)
        folders.sort()
        yield from ((inside / name).as_posix() for name in sorted(files))


def _homes(folder: Path) -> tuple[Path, ...]:
    """Return where files of the folder may really lie."""
    place = folder.resolve()
    repositories = (parent.parent for parent in place.parents if parent.name == "snapshots")
    blobs = (home / "blobs" for home in repositories if home.name.startswith("models--"))
    return (place, *blobs)


def _unfit(file: Path, homes: tuple[Path, ...]) -> str | None:
    """Return why `file` can't be copied; None where it can."""
    try:
        place = file.resolve(strict=True)
        regular = stat.S_ISREG(place.stat().st_mode)
    except (OSError, RuntimeError):
        return LINK
    home = next((home for home in homes if place.is_relative_to(home)), None)
    if home is None:
        return LINK
    if not regular:
        return SPECIAL
    if not os.access(place, os.R_OK):
        return LOCKED
    # Under another name, what stays behind would come along.
    return (
        reason_to_stay(place.relative_to(home).as_posix()) if file.is_symlink() and home == homes[0] else None
    )
