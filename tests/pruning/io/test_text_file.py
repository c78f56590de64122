"""Texts of the user's, or one sentence that says why not."""

from __future__ import annotations

from pathlib import Path

import pytest

from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.io.text_file import read_text


def test_a_text_is_read_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("grün\n", encoding="utf-8")
    assert read_text(tmp_path / "text.txt") == "grün\n"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (None, "No such file or directory"),
        (b"ab\xff", r"it isn't UTF-8, byte 2"),
        ("folder", "Is a directory"),
    ],
)
def test_what_is_no_text_is_refused_in_one_sentence(
    data: bytes | str | None, why: str, tmp_path: Path
) -> None:
    file = tmp_path / "text.txt"
    if isinstance(data, bytes):
        file.write_bytes(data)
    elif data:
        file.mkdir()
    with pytest.raises(UsageError, match=rf"^Can't read the questions in .*text\.txt: {why}\.$"):
        read_text(file, "questions in")
