"""Damage to files that knows their structure: values, keys, headers and lines change, or plain bytes."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import yaml

ODD: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2, 3, 7, 255, 10**9, 2**31, 2**63, 10**18, 10**400, -(10**18), -0.5, 0.5,
    1e-320, 1e308, float("inf"), float("nan"), "", " ", "0", "0-9999999", "5-1", "../../x", "/dev/zero",
    "/dev/stdin", "\0", "\u202e", "\x1b[31m", "a\nb", "x" * 5000, "é" * 300, "auto", "llama", "gpt2",
    "float32", [], {}, [None], [[[]]], [0], [-1, 2], {"": None}, {"a": {"b": []}}, [1e9] * 20, ["x"] * 300,
)  # fmt: skip
TOKENS = (
    b"null", b"true", b"-1", b"1e999", b"NaN", b"0", b"1" * 400, b"1" * 5000, b'""', b"[]", b"{}", b"[" * 300,
    b"{" * 300, b'"\\ud800"', b'"../../x"', b'"\\u0000"', b"\xff\xfe", b"\xef\xbb\xbf", b"99999999999", b",",
    b":", b"- ", b"&a ", b"*a", b"<<: *a", b"!!python/object/apply:os.system", b"!!binary ", b"!!set ",
    b"!!timestamp ", b"---\n", b"\n", b"\r", b"\t", b"\0", b"'", b'"',
)  # fmt: skip
Tree = Any


@dataclass(frozen=True)
class Format:
    """How a kind of file is taken apart and put together."""

    parse: Callable[[bytes], Tree]
    write: Callable[[Tree], bytes]


def damaged(data: bytes, form: str, drawn: random.Random) -> bytes:
    """Return the content of a file of the named format with something wrong in it."""
    if form == "bytes" or drawn.random() < 0.25:
        return damaged_bytes(data, drawn)
    known = FORMATS[form]
    try:
        data = known.write(damaged_tree(known.parse(data), drawn))
    except (ValueError, TypeError, OverflowError, AttributeError, RecursionError, yaml.YAMLError):
        return damaged_bytes(data, drawn)  # What came out can't be written in this format.
    return damaged_bytes(data, drawn) if drawn.random() < 0.05 else data


def damaged_bytes(data: bytes, drawn: random.Random) -> bytes:
    """Change, remove, double, insert or cut off a few bytes or words."""
    changed = bytearray(data)
    for _ in range(drawn.choice((1, 1, 1, 2, 3, 8))):
        start = drawn.randrange(len(changed) + 1)
        stop = min(len(changed), start + drawn.choice((0, 1, 1, 2, 4, 16, 64, len(changed))))
        piece = bytes(changed[start:stop])
        changed[start:stop] = drawn.choice(
            (b"", bytes([drawn.randrange(256)]), drawn.choice(TOKENS), piece * 2, piece[::-1])
        )
    return bytes(changed)


def damaged_tree(data: Tree, drawn: random.Random) -> Tree:
    """Replace, remove, rename, wrap, double, bend or swap a few values."""
    data = copy.deepcopy(data)
    for _ in range(drawn.choice((1, 1, 1, 2, 4))):
        known = list(_places(data))
        if not known:
            return drawn.choice(ODD)
        holder, last = _at(data, drawn.choice(known))
        value = holder.pop(last)
        how = drawn.choice(("put", "put", "put", "bend", "bend", "remove", "wrap", "rename", "deep", "swap"))
        if how == "remove":
            continue
        key = last
        if how == "rename" and isinstance(holder, dict):
            key = drawn.choice((f"{last}x", "", "config", "kind", str(last).upper()))
        _put(holder, key, _changed(how, value, data, known, drawn))
    return data


def _changed(how: str, value: Any, data: Tree, known: list[tuple[Any, ...]], drawn: random.Random) -> Any:
    if how == "put":
        return copy.deepcopy(drawn.choice(ODD))
    if how == "bend":
        return _bent(value, drawn)
    if how == "wrap":
        return drawn.choice(([value], {"a": value}, [value, value]))
    if how == "deep":
        for _ in range(drawn.choice((3, 70, 150))):
            value = [value]
        return value
    if how == "swap":
        try:
            holder, last = _at(data, drawn.choice(known))
            return copy.deepcopy(holder[last])
        except (LookupError, TypeError):  # It went with the value.
            return value
    return value


def _bent(value: Any, drawn: random.Random) -> Any:
    """Return something near a value, or its like of another type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return drawn.choice(
            (value + 1, value - 1, -value, value * 1000, value * 10**6, float(value), str(value))
        )
    if isinstance(value, float):
        return drawn.choice(
            (-value, value * 1e6, value / 1e6, int(value) if abs(value) < 1e9 else 0, str(value))
        )
    if isinstance(value, str):
        cut = drawn.randrange(len(value) + 1)
        return drawn.choice(
            (value[:cut], value + value, value[:cut] + "\n" + value[cut:], value.upper(), [value])
        )
    if isinstance(value, list):
        return drawn.choice(
            (value + value, value[:-1], value[::-1], value[:1] * 1000, dict.fromkeys(map(str, value)))
        )
    return list(value.items()) if isinstance(value, dict) else value


def _places(data: Tree, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    pairs = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in pairs:
        yield (*path, key)
        if len(path) < 12:
            yield from _places(value, (*path, key))


def _at(data: Tree, path: tuple[Any, ...]) -> tuple[Any, Any]:
    *way, last = path
    for key in way:
        data = data[key]
    return data, last


def _put(holder: Any, key: Any, value: Any) -> None:
    if isinstance(holder, list):
        holder.insert(key, value)
    else:
        holder[key] = value


def _read_safetensors(data: bytes) -> Tree:
    length = int.from_bytes(data[:8], "little")
    return {"header": json.loads(data[8 : 8 + length]), "more": 0, "data": data[8 + length :].hex()}


def _write_safetensors(tree: Tree) -> bytes:
    header = json.dumps(tree.get("header")).encode()
    more, rest = tree.get("more", 0), tree.get("data", "")
    length = len(header) + (more if isinstance(more, int) else 0)
    return (
        (length % 2**64).to_bytes(8, "little") + header + bytes.fromhex(rest if isinstance(rest, str) else "")
    )


def _read_lines(data: bytes) -> Tree:
    return [json.loads(line) for line in data.splitlines()]


def _write_lines(tree: Tree) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in tree).encode()


def _read_card(data: bytes) -> Tree:
    _, head, rest = data.decode().split("---\n", 2)
    return {"head": yaml.safe_load(head), "rest": rest}


def _write_card(tree: Tree) -> bytes:
    return f"---\n{_dump(tree.get('head'))}---\n{tree.get('rest')}".encode()


def _read_signed(data: bytes) -> Tree:
    first, _, text = data.partition(b"\n")
    return {"signatures": json.loads(first), "index": json.loads(text)}


def _write_signed(tree: Tree) -> bytes:
    return json.dumps(tree.get("signatures")).encode() + b"\n" + json.dumps(tree.get("index")).encode()


def _dump(tree: Tree) -> str:
    return yaml.safe_dump(tree, allow_unicode=True, sort_keys=False)


FORMATS = {
    "json": Format(json.loads, lambda tree: json.dumps(tree).encode()),
    "yaml": Format(yaml.safe_load, lambda tree: _dump(tree).encode()),
    "safetensors": Format(_read_safetensors, _write_safetensors),
    "lines": Format(_read_lines, _write_lines),
    "card": Format(_read_card, _write_card),
    "signed": Format(_read_signed, _write_signed),
}
