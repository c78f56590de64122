"""The program of a small job that prints a folder of the head node: its log is how the folder gets here.

Ray's job interface carries logs, and no files. ResourceEstimate nothing but Python.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
from pathlib import Path

MARK = "prunepolicy-file "
"""Before every line that holds a file, and before the last one, which holds their number."""


MOST_BYTES = 1 << 30
"""Of all files: whoever fetches them has the whole log in memory. More are not printed at all."""


def main(folder: Path) -> None:
    """Print every regular file below `folder` as one line of JSON, without what links lead to."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    size = sum(path.stat().st_size for path in paths)
    if size > MOST_BYTES:
        print(MARK + json.dumps({"too_large": size}))
        return
    for path in paths:
        data = path.read_bytes()
        line = {
            "name": path.relative_to(folder).as_posix(),
            "sha256": hashlib.sha256(data).hexdigest(),
            "data": base64.b64encode(data).decode(),
        }
        print(MARK + json.dumps(line))
    print(MARK + json.dumps({"files": len(paths)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]).expanduser())
