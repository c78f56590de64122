"""The clean process accepts what is right and says in a sentence what is wrong."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import safetensors.torch
import torch
import transformers
from torch import Tensor

from prunepolicy.pruning.adapters import adapters
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.checkpoint.loading import load_model
from prunepolicy.pruning.proof import proof, proof_script
from prunepolicy.pruning.proof.answers import answer_of
from prunepolicy.pruning.proof.proof import Receipt, prove

Make = Callable[..., Checkpoint]
DOWN = "model.layers.1.mlp.down_proj.weight"


class Case:
    """A tiny folder together with inputs and the outputs that its undamaged model gives."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        place = checkpoint.folder.with_name("source")
        self.source = Checkpoint.open(shutil.copytree(checkpoint.folder, place))
        self.inputs = {"input_ids": torch.randint(3, 64, (2, 12))}
        model = load_model(checkpoint.folder, checkpoint.adapter, torch.float32, torch.device("cpu"))
        with torch.no_grad():
            self.expected, _ = answer_of(model(**self.inputs))

    def edit_weights(self, edit: Callable[[dict[str, Tensor]], object], source: bool = False) -> None:
        for checkpoint in (self.checkpoint, self.source)[: 1 + source]:
            file = checkpoint.folder / "model.safetensors"
            weights = safetensors.torch.load_file(file)
            edit(weights)
            safetensors.torch.save_file(weights, file, {"format": "pt"})

    def edit_config(self, **changes: object) -> None:
        (self.checkpoint.folder / "config.json").write_text(json.dumps(self.checkpoint.config | changes))

    @property
    def request(self) -> dict[str, object]:
        return {
            "folder": self.checkpoint.folder,
            "auto_class": "AutoModelForCausalLM",
            "own_code": False,
            "modelling_file": None,
            "source": self.source.folder,
            "source_files": self.source.files,
        }

    def prove(self, timeout: float = 120.0) -> Receipt:
        return prove(self.checkpoint.folder, self.source, self.inputs, self.expected, timeout=timeout)


@pytest.fixture
def case(tiny_checkpoint: Make) -> Case:
    return Case(tiny_checkpoint())


def test_a_good_folder_passes(case: Case) -> None:
    receipt = case.prove()
    assert receipt.ok, receipt.sentence
    assert receipt.ran
    assert receipt.cache_agrees
    assert receipt.relative is not None
    assert receipt.relative < 1e-5
    assert set(receipt.versions) == {"python", "torch", "transformers"}
    assert receipt.peak_memory is not None
    assert receipt.seconds is not None
    assert json.loads(receipt.to_json())["ok"] is True


def test_perturbed_weights_fail(case: Case) -> None:
    case.edit_weights(lambda weights: weights[DOWN].add_(0.05))
    receipt = case.prove()
    assert (receipt.ok, receipt.ran) == (False, True)
    assert "its outputs differ by" in receipt.sentence


def test_a_missing_tensor_fails_by_name(case: Case) -> None:
    case.edit_weights(lambda weights: weights.pop(DOWN))
    receipt = case.prove()
    assert not receipt.ok
    assert f"1 weights are missing, the first is {DOWN}" in receipt.sentence


def test_a_left_over_tensor_fails_by_name(case: Case) -> None:
    case.edit_weights(lambda weights: weights.update({"model.layers.7.stray": torch.ones(2)}))
    with pytest.raises(ValueError, match=r"1 weights are unexpected, the first is model\.layers\.7\.stray"):
        proof_script.load(case.request)


def test_tensors_that_the_source_has_in_vain_may_be_left_over(case: Case) -> None:
    case.edit_weights(lambda weights: weights.update({"value.0.weight": torch.ones(2)}), source=True)
    case.edit_weights(lambda weights: weights.update({"value.1.weight": torch.ones(2)}))
    receipt = case.prove()
    assert receipt.ok, receipt.sentence


def test_a_tensor_that_the_source_lacks_may_be_missing(case: Case) -> None:
    case.edit_weights(lambda weights: weights.pop(DOWN), source=True)
    proof_script.load(case.request)
    case.edit_weights(lambda weights: weights.pop("model.norm.weight"))
    with pytest.raises(ValueError, match=r"1 weights are missing, the first is model\.norm\.weight"):
        proof_script.load(case.request)


GENERATION = {
    "stop_strings": ["<|end|>"],
    "return_dict_in_generate": True,
    "num_return_sequences": 2,
    "num_beams": 2,
    "max_length": 3,
    "max_time": 1e-9,
    "min_new_tokens": 40,
    "eos_token_id": list(range(64)),
    "suppress_tokens": list(range(60)),
    "forced_eos_token_id": 5,
    "repetition_penalty": 1.7,
    "no_repeat_ngram_size": 1,
    "bad_words_ids": [[3]],
    "cache_implementation": "static",
    "use_cache": False,
    "output_attentions": True,
    "prompt_lookup_num_tokens": 3,
    "guidance_scale": 2.0,
    "watermarking_config": {"greenlist_ratio": 0.25, "bias": 2.0},
}
"""Settings for generation that are legal, none of which says anything about the weights."""


@pytest.mark.parametrize("key", GENERATION)
def test_settings_for_generation_are_no_part_of_the_question(key: str, case: Case) -> None:
    file = case.checkpoint.folder / "generation_config.json"
    file.write_text(json.dumps({"eos_token_id": 2, "do_sample": True, key: GENERATION[key]}))
    model = proof_script.load(case.request)
    assert proof_script.generation(model, case.inputs) == {"cache_agrees": True, "trouble": ""}


def test_generation_stays_within_a_short_context(tiny_checkpoint: Make) -> None:
    case = Case(tiny_checkpoint("gpt2", n_positions=12))
    assert proof_script.cache_agrees(proof_script.load(case.request), case.inputs["input_ids"])


class Forgetful(torch.nn.Module):
    """Stands for a model that answers otherwise when it remembers."""

    def generate(self, prompt: Tensor, use_cache: bool, **settings: object) -> object:
        return SimpleNamespace(logits=[torch.tensor([[1.0, 0.0]]) * (1 + 0.1 * use_cache)])


def test_a_cache_that_changes_answers_is_seen() -> None:
    assert not proof_script.cache_agrees(Forgetful(), torch.ones(2, 12, dtype=torch.long))


@pytest.mark.parametrize("of_the_source", [True, False, None])
def test_a_cache_counts_if_the_sources_agrees(
    of_the_source: bool | None, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def ask(request: dict[str, str], *_: object) -> dict[str, object]:
        asked.append(request["folder"])
        agrees = of_the_source if request["folder"] == str(case.source.folder) else False
        numbers = {"difference": 0.0, "spread": 1.0, "versions": {"transformers": "5"}}
        return {**numbers, "cache_agrees": agrees, "trouble": "no method"}

    monkeypatch.setattr(proof, "_ask", ask)
    receipt = case.prove()
    assert asked == [str(case.checkpoint.folder), str(case.source.folder)]
    assert receipt.ok == (of_the_source is False)
    assert (receipt.cache_agrees is None) == receipt.ok
    assert receipt.ok or receipt.sentence.endswith("well, but doesn't generate: no method.")


HEADS = {
    "BertModel": "bert",
    "BertForPreTraining": "bert",
    "BertForMaskedLM": "bert",
    "BertForTokenClassification": "bert",
    "BertForQuestionAnswering": "bert",
    "BertForSequenceClassification": "bert",
    "GPT2ForSequenceClassification": "gpt2",
    "LlamaForSequenceClassification": "llama",
    "LlamaForTokenClassification": "llama",
    "LlamaModel": "llama",
}


@pytest.mark.parametrize("head", HEADS)
def test_every_head_answers(head: str, tmp_path: Path) -> None:
    config = {**adapters[HEADS[head]].tiny(), "model_type": HEADS[head], "architectures": [head]}
    settings = transformers.AutoConfig.for_model(**config, pad_token_id=None)
    getattr(transformers, head)(settings).save_pretrained(tmp_path / "model")
    case = Case(Checkpoint.open(tmp_path / "model"))
    request = {**case.request, "auto_class": case.source.adapter.auto_class}
    answers = proof_script.answers_of(proof_script.load(request), case.inputs)
    torch.testing.assert_close(answers, case.expected, rtol=1e-4, atol=1e-5)


def test_answers_that_are_nearly_equal_may_be_rounded() -> None:
    same = torch.tensor([[1000.0], [1000.0]])
    assert proof_script.spread_of(same) == pytest.approx(10)
    assert proof_script.spread_of(torch.tensor([[-1.0], [1.0]])) == pytest.approx(2**0.5)


def test_a_wrong_size_in_the_configuration_fails(case: Case) -> None:
    case.edit_config(intermediate_size=40)
    with pytest.raises(ValueError, match=r"down_proj.weight is stored as \(32, 48\), .* implies \(32, 40\)"):
        proof_script.load(case.request)


def test_outputs_that_are_no_numbers_fail() -> None:
    receipt = proof.verdict_on(
        {"difference": math.nan, "spread": 1.0, "cache_agrees": True, "trouble": ""}, 1e-3, False
    )
    assert (receipt.ok, receipt.difference) == (False, None)
    assert receipt.sentence == "The folder loads, but its outputs are not finite."


def test_no_folder_is_a_receipt_too(case: Case) -> None:
    (case.checkpoint.folder / "model.safetensors").unlink()
    receipt = case.prove()
    assert (receipt.ok, receipt.ran) == (False, False)
    assert "has neither" in receipt.sentence


def test_too_little_memory_is_said_before_it_is_tried(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "available_memory", lambda: 2**28)
    receipt = case.prove()
    assert (receipt.ok, receipt.ran) == (False, False)
    assert receipt.sentence == "Not run: needs 0.5 GiB of memory, 0.2 GiB are free."


def test_a_process_that_hangs_is_stopped(case: Case) -> None:
    receipt = case.prove(timeout=0.2)
    assert (receipt.ok, receipt.ran) == (False, False)
    assert receipt.sentence == "Stopped after 0.2 s without an answer."


def test_code_that_the_folder_carries_runs_only_there(case: Case) -> None:
    case.edit_config(auto_map={"AutoModelForCausalLM": "modeling_own.OwnLlama"}, per_layer_sizes=[{}] * 3)
    (case.checkpoint.folder / "modeling_own.py").write_text(
        "from transformers import LlamaForCausalLM\n\n\nclass OwnLlama(LlamaForCausalLM):\n    pass\n"
    )
    receipt = case.prove()
    assert receipt.ok, receipt.sentence
    assert receipt.own_code


def test_a_network_that_transformers_lacks_loads_with_the_file_it_carries(tiny_checkpoint: Make) -> None:
    checkpoint = tiny_checkpoint("cifar_resnet")
    for name, source in checkpoint.adapter.carries.items():
        shutil.copyfile(source, checkpoint.folder / name)
    inputs = {"pixel_values": torch.randn(2, 3, 32, 32)}
    with torch.no_grad():
        expected = checkpoint.adapter.load(checkpoint.folder, torch.float32)(**inputs)
    receipt = prove(checkpoint.folder, checkpoint, inputs, expected)
    assert receipt.ok, receipt.sentence
    assert receipt.own_code
    assert receipt.cache_agrees is None
