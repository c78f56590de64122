"""A name at which nothing lies: what is said, and that the hub isn't asked about paths."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from prunepolicy.pruning.checkpoint.no_model import SMALL_MODELS, SMOLLM2, is_local, near, nothing_there

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks" / "measure"))

import small_models


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine" / "llama-tuned").mkdir(parents=True)
    (tmp_path / "mine" / "other.gguf").touch()
    (tmp_path / "mine" / "llama-tuned.txt").touch()
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("model", ["gpt2", "org/name", "HuggingFaceTB/SmolLM2-135M", "a.b/c-d_e", SMOLLM2])
def test_hub_names_are_asked_for(model: str) -> None:
    assert not is_local(model)


@pytest.mark.parametrize(
    "model", ["mine/llama", "mine/", "models/llama-1m", "models/gpt2-1m", "../x", "a/b.gguf"]
)
def test_paths_are_not(model: str) -> None:
    assert is_local(model)


@pytest.mark.parametrize(
    "model", ["models/llama-1m", "./models/opt-1m", "models/llama-2m/", "models\\phi3-2m"]
)
def test_the_projects_small_models_have_to_be_made(model: str) -> None:
    assert "`make models`" in nothing_there(model)


def test_the_list_of_small_models_is_the_trainers() -> None:
    assert tuple(small.name for small in small_models.MODELS) == SMALL_MODELS


@pytest.mark.parametrize(
    ("model", "meant"),
    [
        ("mine/llama-tund", "'mine/llama-tuned'"),
        ("./mine/llama-tund", "'mine/llama-tuned'"),
        ("mine/othr.gguf", "'mine/other.gguf'"),
        ("mine\\llama-tuned", "'mine/llama-tuned'"),
        ("min", "'mine'"),
        ("smolm2-135m", f"'{SMOLLM2}'"),
    ],
)
def test_near_names_are_offered(model: str, meant: str) -> None:
    assert near(model) == f" Did you mean {meant}?"


@pytest.mark.parametrize("model", ["nowhere/at/all", "\0", "", "x" * 5000, "mine/zzz"])
def test_nothing_is_offered_where_nothing_is_near(model: str) -> None:
    assert near(model) == ""


def test_a_page_is_told_from_a_name() -> None:
    assert "'org/name'" in nothing_there("https://huggingface.co/org/name/tree/main")
