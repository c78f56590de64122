"""What comes from outside: honest files are read, others refused before they fill the memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prunepolicy.pruning.io import bounded

REPEATED = "a0: &a0 {k: 1}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{','.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 10)
)
LAUGHS = "a0: &a0 [1]\n" + "".join(f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10))


def test_honest_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_text('{"a": [1, "grün", null]}\r\n', encoding="utf-8")
    assert bounded.read_json(tmp_path / "a") == {"a": [1, "grün", None]}
    assert bounded.read_yaml(tmp_path / "a") == {"a": [1, "grün", None]}
    assert bounded.read_text(tmp_path / "a").endswith("}\n")
    assert bounded.parsed_yaml("a: &a {b: 1}\nc: {<<: *a, d: 2}") == {"a": {"b": 1}, "c": {"b": 1, "d": 2}}


@pytest.mark.parametrize(
    "read", [bounded.read_bytes, bounded.read_text, bounded.read_json, bounded.read_yaml]
)
def test_only_regular_files_are_read(read: Callable[[Path], Any], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for place, reason in (
        (tmp_path / "pipe", "it is no regular file"),
        (Path("/dev/zero"), "it is no regular file"),
        (tmp_path, "Is a directory"),
        (tmp_path / "none", "No such file or directory"),
        (tmp_path / ("x" * 300), "File name too long"),
        (tmp_path / "\0", "embedded null byte"),
    ):
        with pytest.raises((OSError, ValueError)) as caught:
            read(place)
        assert bounded.why(caught.value) == reason


def test_links_are_followed_only_where_they_may_be(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("text")
    (tmp_path / "link").symlink_to("a")
    assert bounded.read_bytes(tmp_path / "link") == b"text"
    with pytest.raises(OSError, match="symbolic links"):
        bounded.read_bytes(tmp_path / "link", follow=False)


def test_a_file_has_a_largest_size(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"123")
    assert bounded.read_bytes(tmp_path / "a", 3) == b"123"
    with pytest.raises(OSError, match="more than 2 bytes"):
        bounded.read_bytes(tmp_path / "a", 2)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000, "levels deep"),
        ("[" * 65 + "]" * 65, "levels deep"),
        ('{"a":' * 500 + "1" + "}" * 500, "levels deep"),
        ("[" + "[]," * 1_100_000 + "1]", "parts"),
        ('{"\\ud800": 1}', "halves of letters"),
        ('["a\\udfff"]', "halves of letters"),
        ("1" * 5000, "digits"),
        (b"\xff\xfe[\x00]\x00", "utf-8"),
        ("", "Expecting value"),
    ],
)
def test_json_that_no_honest_file_holds(text: str | bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        bounded.parsed_json(text)


def test_json_as_deep_as_it_may_be() -> None:
    assert bounded.parsed_json("[" * 64 + "]" * 64)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (REPEATED, "parts"),
        (LAUGHS, "parts"),
        ("a: &a [*a]", "parts"),
        ("a: &a {<<: *a}", "parts"),
        ("a: " + "[" * 5000, "levels deep"),
        ("".join(" " * n + "a:\n" for n in range(100)), "levels deep"),
        ("a: !!bool x", "a tag doesn't fit"),
        ("a: !!int ''", "a tag doesn't fit"),
        ("a: !!timestamp x", "a tag doesn't fit"),
        ("a: !!python/name:os.system", "could not determine a constructor"),
        ("a: 2024-13-45", "month"),
        ('a: "\\ud800"', "halves of letters"),
        ("a: *b", "undefined alias"),
        ("[a]: {[b]: c}", "unhashable"),
        ("\0", "special characters"),
        ("a" * 300_000, "letters"),
    ],
)
def test_yaml_that_no_honest_file_holds(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        bounded.parsed_yaml(text)
    assert "\n" not in str(caught.value)
