from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from prunepolicy.agents.learned_pruning import measured_rise
from prunepolicy.agents.learned_pruning.evaluator import JUDGING_SEED
from prunepolicy.agents.learned_pruning.measured_rise import REWARDING_SEED, MeasuredRise
from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.session.model_session import ModelSession
from prunepolicy.pruning.session.opened_model import Hardware
from prunepolicy.pruning.statistics.gates import masked
from prunepolicy.pruning.statistics.probe import Probe

TEXT = Probe("self", 10, 12, REWARDING_SEED)
KEEP = {"layers.0.ffn": tuple(range(20)), "layers.1.ffn": tuple(range(10, 30))}


@pytest.fixture
def session(model: Callable[..., str]) -> ModelSession:
    return ModelSession.named(model(num_hidden_layers=2), Hardware("cpu", "float32"))


def divergence(session: ModelSession, tokens: torch.Tensor) -> float:
    """The same, written out in one piece."""
    with torch.no_grad():
        dense = session.model(input_ids=tokens).logits[:, :-1].double().log_softmax(-1)
        with masked(session.model, session.checkpoint.graph, Plan(KEEP, Budget(1.0), "")):
            pruned = session.model(input_ids=tokens).logits[:, :-1].double().log_softmax(-1)
    return float((dense.exp() * (dense - pruned)).sum(-1).mean())


def test_it_is_the_divergence_from_the_dense_network(session: ModelSession) -> None:
    rise = MeasuredRise(session, TEXT)
    assert rise({}) == 0
    assert rise({name: tuple(range(48)) for name in KEEP}) == 0
    assert rise(KEEP) == pytest.approx(divergence(session, session.probe(TEXT)["input_ids"]), rel=1e-3)
    assert rise(KEEP) > 1e-3


def test_where_memory_is_short_it_reads_the_tokens_instead(
    session: ModelSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = session.probe(TEXT)["input_ids"]
    expected = []
    for keep in ({}, KEEP):
        with torch.no_grad(), masked(session.model, session.checkpoint.graph, Plan(keep, Budget(1.0), "")):
            expected.append(session.model(input_ids=tokens, labels=tokens).loss)
    monkeypatch.setattr(measured_rise, "MOST_BYTES", 1000)
    assert MeasuredRise(session, TEXT)(KEEP) == pytest.approx(float(expected[1] - expected[0]), rel=1e-3)


@pytest.mark.parametrize("repair", [None, "bias", "ridge"])
def test_the_model_is_left_as_it_was(session: ModelSession, repair: str | None) -> None:
    before = {name: value.clone() for name, value in session.model.state_dict().items()}
    rise = MeasuredRise(session, TEXT, repair, Probe("self", 16, 12))
    first = rise(KEEP)
    assert rise({}) == 0
    assert rise(KEEP) == first
    after = session.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    hooks = [m for m in session.model.modules() if m._forward_pre_hooks or m._forward_hooks]
    assert not hooks


def test_a_repair_takes_part_of_the_rise_back(session: ModelSession) -> None:
    with torch.no_grad():
        for layer in session.model.model.layers:
            # Two equal halves: what stays can say all that went.
            layer.mlp.gate_proj.weight[24:] = layer.mlp.gate_proj.weight[:24]
            layer.mlp.up_proj.weight[24:] = layer.mlp.up_proj.weight[:24]
    for name, tensor in session.model.state_dict().items():
        assert torch.isfinite(tensor).all(), name
    session.model.save_pretrained(session.checkpoint.folder)
    twin = ModelSession.named(session.name, session.hardware)
    keep = {name: tuple(range(24)) for name in KEEP}
    text = Probe("self", 16, 24, REWARDING_SEED)
    plain, mended = (MeasuredRise(twin, text, repair, Probe("self", 16, 24)) for repair in (None, "ridge"))
    assert mended(keep) < 0.1 * plain(keep)


def test_no_judge_reads_its_text() -> None:
    near = {JUDGING_SEED + later for later in range(1000)}
    assert not {REWARDING_SEED + seed for seed in range(1000)} & near


def test_a_network_that_writes_no_text_is_refused(model: Callable[..., str], tmp_path: Path) -> None:
    session = ModelSession.named(model("vit"), Hardware("cpu", "float32"))
    with pytest.raises(UsageError, match="doesn't write text"):
        MeasuredRise(session, TEXT)({})
