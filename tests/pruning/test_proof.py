"""The clean process accepts what is right and says in a sentence what is wrong."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable

import pytest
import safetensors.torch
import torch
from torch import Tensor

from prunepolicy.pruning import proof, proof_script
from prunepolicy.pruning.checkpoint import Checkpoint
from prunepolicy.pruning.loading import load_model
from prunepolicy.pruning.proof import Receipt, prove

Make = Callable[..., Checkpoint]
DOWN = "model.layers.1.mlp.down_proj.weight"


class Case:
    """A tiny folder together with inputs and the outputs that its undamaged model gives."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self.inputs = {"input_ids": torch.randint(3, 64, (2, 12))}
        model = load_model(checkpoint.folder, checkpoint.adapter, torch.float32, torch.device("cpu"))
        with torch.no_grad():
            self.expected: Tensor = model(**self.inputs).logits

    def edit_weights(self, edit: Callable[[dict[str, Tensor]], object]) -> None:
        file = self.checkpoint.folder / "model.safetensors"
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
        }

    def prove(self, timeout: float = 120.0) -> Receipt:
        folder, adapter = self.checkpoint.folder, self.checkpoint.adapter
        return prove(folder, adapter, self.inputs, self.expected, timeout=timeout)


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


def test_a_wrong_size_in_the_configuration_fails(case: Case) -> None:
    case.edit_config(intermediate_size=40)
    with pytest.raises(ValueError, match=r"down_proj.weight is stored as \(32, 48\), .* implies \(32, 40\)"):
        proof_script.load(case.request)


def test_outputs_that_are_no_numbers_fail() -> None:
    receipt = proof.judge({"difference": math.nan, "spread": 1.0, "cache_agrees": True}, 1e-3, False)
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
    case.edit_config(auto_map={"AutoModelForCausalLM": "modeling_own.OwnLlama"}, architectures=["OwnLlama"])
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
    receipt = prove(checkpoint.folder, checkpoint.adapter, inputs, expected)
    assert receipt.ok, receipt.sentence
    assert receipt.own_code
    assert receipt.cache_agrees is None
