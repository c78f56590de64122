from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from prunepolicy.agents.runtime import LocalRunner
from prunepolicy.agents.thinking.lm.engines import Chunk, Completions, Request, Sampling, engines
from prunepolicy.agents.thinking.lm.engines.registry import Force
from prunepolicy.agents.thinking.lm.engines.transformers import TransformersEngine
from prunepolicy.agents.thinking.lm.policy_model import PolicyModel
from prunepolicy.agents.thinking.lm.rollout_batch import Group, RolloutWorker
from prunepolicy.agents.thinking.lm.scoring import Scorer
from prunepolicy.agents.thinking.lm.tasks import Problem
from prunepolicy.pruning.errors import PrunePolicyError

QUESTIONS = ("a1b2 mod 5?", "a1b2c4d0 mod 5?", "a3 mod 5?")


def requests(policy_model: PolicyModel, force: Force = "free", count: int = 4) -> list[Request]:
    return [
        Request(tuple(policy_model.prompting.ids(text)), count, seed, force)
        for seed, text in enumerate(QUESTIONS, 5)
    ]


def written(policy_model: PolicyModel, asked: list[Request], sampling: Sampling) -> Completions:
    return engines["transformers"].open(policy_model.model).generate(asked, sampling)


def test_the_likeliest_tokens_are_those_of_transformers_own_generation(policy_model: PolicyModel) -> None:
    for request in requests(policy_model):
        own = written(policy_model, [request], policy_model.sampling(12, 0.0))
        theirs = policy_model.model.generate(
            input_ids=torch.tensor([request.prompt]),
            attention_mask=torch.ones(1, len(request.prompt), dtype=torch.long),
            max_new_tokens=12,
            do_sample=False,
            eos_token_id=policy_model.end,
            pad_token_id=policy_model.pad,
        )
        expected = theirs[0, len(request.prompt) :].tolist()
        assert own.tokens[0, : own.lengths[0]].tolist() == expected[: own.lengths[0]]


def test_log_probabilities_are_those_of_one_pass_over_prompt_and_completion(
    policy_model: PolicyModel,
) -> None:
    asked, sampling = requests(policy_model), policy_model.sampling(9, 0.7)
    found = written(policy_model, asked, sampling)
    rows = [row[:n] for row, n in zip(found.tokens.tolist(), found.lengths.tolist(), strict=True)]
    prompts = [request.prompt for request in asked for _ in range(request.count)]
    scorer = Scorer(policy_model.model, policy_model.prompting.closing[0], policy_model.pad, temperature=0.7)
    scores = scorer(prompts, rows)
    width = found.log_probs.shape[1]
    torch.testing.assert_close(scores.log_probs[:, :width].detach(), found.log_probs, atol=1e-5, rtol=1e-4)
    assert scores.mask.sum(1).tolist() == found.lengths.tolist()


def test_completions_do_not_depend_on_what_else_is_in_the_batch(policy_model: PolicyModel) -> None:
    asked, sampling = requests(policy_model, count=6), policy_model.sampling(16)
    # A likely end makes rows leave the batch at different times.
    with torch.no_grad():
        policy_model.model.model.embed_tokens.weight[policy_model.end] *= 3
    together = written(policy_model, asked, sampling)
    apart = Completions.joined([written(policy_model, [one], sampling) for one in asked], policy_model.pad)
    assert len(set(together.lengths.tolist())) > 2
    assert together.tokens.tolist() == apart.tokens.tolist()
    assert together.ended.tolist() == apart.ended.tolist()
    assert written(policy_model, asked, sampling).tokens.tolist() == together.tokens.tolist()


def test_modes_can_be_forced_and_half_of_them_carry_a_fair_coins_probability(
    policy_model: PolicyModel,
) -> None:
    closing, sampling = policy_model.prompting.closing, policy_model.sampling(5)
    answers = written(policy_model, requests(policy_model, "answer"), sampling)
    assert (answers.tokens[:, 0] == closing[0]).all()
    thinks = written(policy_model, requests(policy_model, "think", 40), sampling)
    assert not (thinks.tokens[:, 0] == closing[0]).any()
    half = written(policy_model, requests(policy_model, "half"), sampling)
    first = half.tokens[:, 0].reshape(3, 4) == closing[0]
    assert first.tolist() == [[True, True, False, False]] * 3
    assert half.log_probs[:2, 0].exp().tolist() == pytest.approx([0.5, 0.5])
    prompt = torch.tensor([requests(policy_model)[0].prompt])
    chances = policy_model.model(prompt).logits[0, -1].softmax(-1).detach()
    expected = 0.5 * chances[half.tokens[2, 0]] / (1 - chances[closing[0]])
    assert float(half.log_probs[2, 0].exp()) == pytest.approx(float(expected), rel=1e-4)


def test_a_closing_tag_of_several_tokens_is_written_whole(policy_model: PolicyModel) -> None:
    """Models without a token of their own for the tag spell it."""
    sampling = Sampling(6, (5, 6, 7), (policy_model.end,), policy_model.pad)
    found = written(policy_model, requests(policy_model, "answer"), sampling)
    assert (found.tokens[:, :3] == torch.tensor([5, 6, 7])).all()
    assert (found.log_probs[:, 1:3] < 0).all()
    thinks = written(policy_model, requests(policy_model, "think", 30), sampling)
    assert not (thinks.tokens[:, 0] == 5).any()


def test_frequencies_follow_the_models_probabilities(policy_model: PolicyModel) -> None:
    request = Request(tuple(policy_model.prompting.ids(QUESTIONS[0])), 4000, 1)
    found = written(policy_model, [request], policy_model.sampling(1))
    chances = policy_model.model(torch.tensor([request.prompt])).logits[0, -1].softmax(-1).detach()
    frequencies = torch.bincount(found.tokens[:, 0], minlength=len(chances)) / 4000
    assert float((frequencies - chances).abs().max()) < 0.03


class Cramped(TransformersEngine):
    """Has memory for the completions of so many prompts."""

    room = 1

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Completions:
        if len(requests) > self.room:
            raise torch.OutOfMemoryError
        return super().generate(requests, sampling)


def test_a_chunk_that_memory_does_not_hold_is_halved_until_it_does(policy_model: PolicyModel) -> None:
    asked, sampling = requests(policy_model), policy_model.sampling(9)
    found = Cramped.open(policy_model.model)(Chunk(tuple(asked), sampling))
    assert found.tokens.tolist() == written(policy_model, asked, sampling).tokens.tolist()
    engine = Cramped.open(policy_model.model)
    engine.room = 0
    with pytest.raises(PrunePolicyError, match=r"too small for 4 completions of 9 tokens: lower reinf"):
        engine(Chunk(tuple(asked), sampling))


def test_time_allowed_grows_with_the_tokens_asked_for(policy_model: PolicyModel) -> None:
    sizes = []

    class Timed(LocalRunner):
        def map(self, work: Any, jobs: Any, size: float = 1) -> Any:
            sizes.append(size)
            return super().map(work, jobs, size)

    problem = Problem("parity", "0110", "0", 4, ())
    worker = RolloutWorker(
        TransformersEngine.open(policy_model.model), policy_model.prompting, runner=Timed()
    )
    worker.roll([Group(problem, 0, 2)], policy_model.sampling(3))
    with torch.no_grad():  # A certain end, so that long completions take no time.
        policy_model.model.lm_head = Ending(policy_model)
    worker.roll([Group(problem, 0, 16)], policy_model.sampling(8192))
    assert sizes == [1, 2]


class Ending(torch.nn.Module):
    """Gives all probability to the end."""

    def __init__(self, policy_model: PolicyModel) -> None:
        super().__init__()
        self.end, self.size = policy_model.end, len(policy_model.tokenizer)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        logits = torch.full((*hidden.shape[:-1], self.size), -100.0)
        logits[..., self.end] = 100.0
        return logits
