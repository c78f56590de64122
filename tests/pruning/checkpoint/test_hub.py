"""Models on the hub: what is fetched of a repository, and what is said where it holds no model."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import errors

from prunepolicy.commands.doctor.doctor import doctor
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.checkpoint.model_files import NOT_FETCHED
from prunepolicy.pruning.checkpoint.source import resolve
from prunepolicy.pruning.errors import NoWeightsError, PrunePolicyError

Make = Callable[..., Checkpoint]


def test_unknown_hub_id_offline() -> None:
    with pytest.raises(PrunePolicyError, match="HF_HUB_OFFLINE") as caught:
        resolve("prunepolicy-tests/does-not-exist")
    assert caught.value.exit_code == 1
    assert len(str(caught.value).splitlines()) == 1


def response(status: int) -> Any:
    """What the hub's errors look at; the HTTP library behind it changes between its versions."""
    return SimpleNamespace(status_code=status, headers={}, request=None)


def behind(status: int) -> Exception:
    """The error of a client that fell back to its cache, which lacks the model, after the hub's answer."""
    error = errors.LocalEntryNotFoundError("x")
    error.__cause__ = errors.HfHubHTTPError("x", response=response(status))
    return error


@pytest.mark.parametrize(
    ("failure", "advice"),
    [
        (errors.GatedRepoError("x", response=response(403)), "accept its terms"),
        (errors.RepositoryNotFoundError("x", response=response(404)), "check the name"),
        (errors.RevisionNotFoundError("x", response=response(404)), "no revision 'v9'"),
        (errors.HfHubHTTPError("boom\nmore", response=response(500)), "from the hub: boom."),
        (errors.HfHubHTTPError("x", response=response(401)), "log in again"),
        (errors.LocalEntryNotFoundError("x"), "can't be reached"),
        (behind(404), "no such model on the hub"),
        (behind(503), "answers with error 503"),
        (TimeoutError("timed out"), "timed out"),
        (OSError(28, "No space left on device"), "No space left on device"),
    ],
)
def test_hub_failures_are_sentences(failure: Exception, advice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **settings: Any) -> str:
        raise failure

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    monkeypatch.setattr(huggingface_hub.HfApi, "repo_info", fail)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(PrunePolicyError) as caught:
        resolve("org/name", "v9")
    assert advice in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """A function that puts files onto a hub of one repository, `org/name`, and returns where they arrive."""

    def make(files: Mapping[str, str], online: bool = True, failure: Exception | None = None) -> Path:
        def download(model: str, revision: Any, ignore_patterns: Any, allow_patterns: Any = None) -> str:
            chosen = huggingface_hub.utils.filter_repo_objects(
                files, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns
            )
            for name in chosen:
                (tmp_path / "hub" / name).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / "hub" / name).write_text(files[name])
            if failure is not None:
                raise failure
            return str(tmp_path / "hub")

        def listed(self: Any, model: str, revision: Any) -> list[str]:
            if not online:
                raise errors.OfflineModeIsEnabled("offline")
            return list(files)

        monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
        monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", listed)
        return tmp_path / "hub"

    return make


def contents(*names: str) -> dict[str, str]:
    return dict.fromkeys(names, "{}")


MODEL = ("config.json", "model.safetensors", "LICENSE", "bpe.codes", "own.py", "1_Pooling/config.json")
OTHERS = ("pytorch_model.bin", "onnx/config.json", "consolidated.safetensors", "a.gguf", "optimizer.pt")


def test_all_that_belongs_to_the_model_is_fetched(repository: Callable[..., Path]) -> None:
    folder = repository(contents(*MODEL, *OTHERS))
    assert resolve("org/name") == folder
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} == set(MODEL)


def test_weights_of_the_modules_that_a_model_names_are_fetched(repository: Callable[..., Path]) -> None:
    named = json.dumps([{"path": ""}, {"path": "2_Dense"}, {"path": ".."}])
    dense = "2_Dense/pytorch_model.bin"
    folder = repository({**contents(*MODEL, dense, "3_Other/pytorch_model.bin"), "modules.json": named})
    resolve("org/name")
    assert (folder / dense).is_file()
    assert not (folder / "3_Other").exists()


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (("config.json", "pytorch_model.bin"), "holds pickled weights"),
        (("config.json", "pytorch_model-00001-of-00002.bin", "pytorch_model.bin.index.json"), "pickled"),
        (("README.md", "a.Q4.gguf", "b.gguf"), r"GGUF files .* as a\.Q4\.gguf, b\.gguf"),
        (("model_index.json", "unet/model.safetensors"), "diffusers"),
        (("config.json", "tf_model.h5"), r"another format \(tf_model\.h5\)"),
        (("config.json", "consolidated.safetensors"), r"another name \(consolidated\.safetensors\)"),
        (("config.json", "model-00001-of-00002.safetensors"), r"lacks model\.safetensors\.index\.json"),
        (("tokenizer.json", "tokenizer_config.json"), "a tokenizer and no model"),
        (("README.md", "data/train.parquet"), "holds data"),
        (("README.md",), "no model folder"),
    ],
)
def test_repositories_without_a_model_are_named_for_what_they_hold(
    files: tuple[str, ...], says: str, repository: Callable[..., Path]
) -> None:
    repository(contents(*files))
    with pytest.raises(NoWeightsError, match=f"^The hub's 'org/name' .*{says}") as caught:
        resolve("org/name")
    assert str(caught.value).endswith(".")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("config", "base"),
    [
        ({"base_model_name_or_path": "meta/base"}, "'meta/base'"),
        ({"base_model_name_or_path": "a\nb"}, "another model"),
        ([], "another model"),
    ],
)
def test_an_adapter_names_its_base(config: Any, base: str, repository: Callable[..., Path]) -> None:
    repository({"adapter_config.json": json.dumps(config), "adapter_model.safetensors": ""})
    with pytest.raises(NoWeightsError, match=rf"an adapter \(LoRA\) of {base}, .*merge_and_unload"):
        resolve("org/name")


def test_the_doctor_says_of_pickles_on_the_hub_what_they_are(repository: Callable[..., Path]) -> None:
    config = {"model_type": "opt", "hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 2}
    config |= {"num_attention_heads": 4, "vocab_size": 64, "word_embed_proj_dim": 32}
    repository({"config.json": json.dumps(config), "pytorch_model.bin": ""})
    diagnosis = doctor("org/name")
    assert diagnosis.family == "opt"
    assert "'org/name' holds pickled weights" in diagnosis.problems[0]


INDEX = json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}})


@pytest.mark.parametrize(
    ("files", "lacks"),
    [
        ({"config.json": "{}"}, "weights in safetensors"),
        ({"model.safetensors": ""}, "config.json"),
        (
            {"config.json": "{}", "model.safetensors.index.json": INDEX, "model-1.safetensors": ""},
            "model-2.safetensors",
        ),
    ],
)
def test_a_half_fetched_model_says_what_is_missing(
    files: Mapping[str, str], lacks: str, repository: Callable[..., Path]
) -> None:
    repository(files, online=False)
    with pytest.raises(PrunePolicyError, match=f"only a part of 'org/name', without {lacks}, .*hf download"):
        resolve("org/name")


def test_a_model_that_lacks_only_its_card_is_used_offline(
    repository: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    failure = OSError("README.md is missing")
    failure.snapshot_path = str(tmp_path / "hub")  # type: ignore[attr-defined]
    folder = repository(contents("config.json", "model.safetensors"), online=False, failure=failure)
    assert resolve("org/name") == folder
    assert "holds org/name only in part" in caplog.text


def test_data_sets_are_not_models(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **settings: Any) -> str:
        raise errors.RepositoryNotFoundError("x", response=response(404))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
    monkeypatch.setattr(huggingface_hub.HfApi, "repo_info", lambda self, name, **settings: None)
    with pytest.raises(PrunePolicyError, match="'org/name' is a dataset on the hub and no model"):
        resolve("org/name")


@pytest.mark.parametrize("letters", ["config.json", "tokenizer.model.v3", "README.md", "modeling_x.py"])
def test_patterns_of_what_is_not_fetched_are_the_hubs(letters: str) -> None:
    assert list(huggingface_hub.utils.filter_repo_objects([letters], ignore_patterns=list(NOT_FETCHED)))
