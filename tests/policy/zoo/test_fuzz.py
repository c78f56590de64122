"""Thousands of damaged files: each is read, or refused in one sentence; nothing else happens."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prunepolicy.agents.learned_pruning.policy_card import parsed_card
from prunepolicy.policy.base import POLICY_FILE, parsed_policy
from prunepolicy.policy.load import load_policy_folder
from prunepolicy.policy.weights import WEIGHTS_FILE
from prunepolicy.policy.zoo.index import parsed_index
from prunepolicy.policy.zoo.pull import check_is
from prunepolicy.policy.zoo.signing import public_text, signed, verified
from prunepolicy.pruning.errors import PrunePolicyError
from prunepolicy.pruning.io.safetensors_file import read_header

CASES = 2000
NAME = "tiny-rows.v1"
TOKENS = (
    b"null", b"true", b"-1", b"1e999", b"NaN", b"0", b"1" * 400, b"1" * 5000, b'""', b"[]", b"{}", b"[" * 300,
    b'"\\ud800"', b'"../../x"', b'"\\u0000"', b"\xff\xfe", b'"schema_version"', b'"prunenet"', b'"gates"',
    b'"graph"', b"99999999999", b'"weights_sha256":null,', b",", b":", b'"config":{"hidden":4096},',
    b'"serial":-1,', b"\n", b"\0",
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def damaged(content: bytes, seed: int) -> bytes:
    """Change, remove, double or insert a few bytes or words."""
    drawn, data = random.Random(seed), bytearray(content)
    for _ in range(drawn.choice((1, 1, 1, 2, 3, 8))):
        start = drawn.randrange(len(data) + 1)
        stop = min(len(data), start + drawn.choice((0, 1, 1, 2, 4, 16, 64, len(data))))
        data[start:stop] = drawn.choice(
            (b"", bytes([drawn.randrange(256)]), drawn.choice(TOKENS), bytes(data[start:stop]) * 2)
        )
    return bytes(data)


def survives(read: Callable[[bytes], object], content: bytes) -> bool:
    """Return whether damaged content was read; it may only be refused in one sentence."""
    try:
        read(content)
    except PrunePolicyError as error:
        sentence = str(error)
    else:
        return True
    assert "\n" not in sentence
    assert len(sentence) < 2000
    return False


def cases(content: bytes) -> Iterator[bytes]:
    yield content
    for seed in range(CASES):
        yield damaged(content, seed)


@pytest.mark.parametrize("kind", ["tiny-rows.v1", "tiny-fisher.llama-v1"])
def test_policy_json(made_once: Path, kind: str) -> None:
    content = (made_once / kind / POLICY_FILE).read_bytes()
    read = [survives(lambda text: parsed_policy(text, "policy.json"), case) for case in cases(content)]
    assert read[0]
    assert 0.01 * CASES < sum(read) < 0.9 * CASES


def test_folders_with_a_damaged_policy_json(made_once: Path, tmp_path: Path) -> None:
    """Those that parse go on to the kind's own settings and the weights' hash."""
    content = (made_once / NAME / POLICY_FILE).read_bytes()
    (tmp_path / WEIGHTS_FILE).write_bytes((made_once / NAME / WEIGHTS_FILE).read_bytes())

    def load(text: bytes) -> None:
        (tmp_path / POLICY_FILE).write_bytes(text)
        load_policy_folder(tmp_path)

    wanted = [case for case in cases(content) if survives(lambda text: parsed_policy(text, "x"), case)]
    assert sum(survives(load, case) for case in wanted[:300]) > 10


def test_indexes(made_once: Path) -> None:
    content = (made_once / "index.signed").read_bytes().partition(b"\n")[2]
    read = [survives(lambda text: parsed_index(text, "the zoo"), case) for case in cases(content)]
    assert read[0]
    assert 0.01 * CASES < sum(read) < 0.9 * CASES


def test_signed_indexes_are_believed_only_as_they_were_signed(made_once: Path, key: object) -> None:
    content = (made_once / "index.signed").read_bytes()
    text, trusted = content.partition(b"\n")[2], [public_text(key)]  # type: ignore[arg-type]
    for case in cases(content):
        if survives(lambda data: verified(data, trusted, "the zoo"), case):
            assert case.partition(b"\n")[2] == text


def test_cards() -> None:
    content = (Path(__file__).parents[3] / "policy/shipped/prunenet-rows.v1/card.json").read_bytes()
    assert survives(lambda text: parsed_card(text, "card.json"), content)
    for seed in range(CASES // 4):
        survives(lambda text: parsed_card(text, "card.json"), damaged(content, seed))


def test_safetensors_headers(made_once: Path, tmp_path: Path) -> None:
    content, file = (made_once / NAME / WEIGHTS_FILE).read_bytes(), tmp_path / WEIGHTS_FILE

    def read(data: bytes) -> None:
        file.write_bytes(data)
        for entry in read_header(file):
            assert entry.start + entry.nbytes <= len(data)
            entry.read()

    length = int.from_bytes(content[:8], "little")
    for seed in range(CASES):
        header = damaged(content[: 8 + length], seed)
        if seed % 2:  # Let the length fit, so that the JSON behind it is read.
            header = (
                (len(header) - 8).to_bytes(8, "little", signed=True) + header[8:]
                if len(header) >= 8
                else header
            )
        survives(read, header + content[8 + length :])


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(JSON)
def test_any_json(value: object) -> None:
    import json

    text = json.dumps(value).encode("utf-8", "surrogatepass")
    for read in (parsed_policy, parsed_index, parsed_card):
        assert not survives(lambda data, read=read: read(data, "x"), text)  # type: ignore[misc]
    assert not survives(
        lambda data: parsed_index(data, "x"), b'{"schema_version":1,"policies":' + text + b",}"
    )


@pytest.mark.parametrize("seed", range(60))
def test_a_damaged_zoo_leaves_nothing_behind(
    seed: int, zoo_folder: Path, key: object, installed: Callable[[], list[str]]
) -> None:
    """Every file is damaged in turn, with and without a signature that fits."""
    from prunepolicy.policy.zoo.pull import pull
    from prunepolicy.policy.zoo.zoo_handle import Zoo

    files = ("index.signed", f"{NAME}/{POLICY_FILE}", f"{NAME}/{WEIGHTS_FILE}", f"{NAME}/README.md")
    file = zoo_folder / files[seed % 4]
    before = file.read_bytes()
    file.write_bytes(damaged(before, seed))
    if seed % 4 == 0 and seed % 8:
        file.write_bytes(signed(damaged(before.partition(b"\n")[2], seed), [key]))  # type: ignore[list-item]

    def bring(_: bytes) -> None:
        check_is(NAME, pull(Zoo.open(str(zoo_folder)), NAME))

    survives(bring, b"") if file.read_bytes() != before else None
    assert installed() in ([], [NAME])
    file.write_bytes(before)
    if seed % 4:
        bring(b"")
        assert installed() == [NAME]
