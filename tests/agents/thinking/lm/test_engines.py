from __future__ import annotations

import os
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from prunepolicy.agents.thinking.lm.engines import Completions, Request, Sampling, engines
from prunepolicy.agents.thinking.lm.engines.registry import Force
from prunepolicy.agents.thinking.lm.policy_model import Student
from prunepolicy.agents.thinking.lm.scoring import Scorer
from prunepolicy.pruning.errors import PrunePolicyError, UsageError

QUESTIONS = ("a1b2 mod 5?", "a1b2c4d0 mod 5?", "a3 mod 5?")


def requests(student: Student, force: Force = "free", count: int = 4) -> list[Request]:
    return [
        Request(tuple(student.prompting.ids(text)), count, seed, force)
        for seed, text in enumerate(QUESTIONS, 5)
    ]


def written(student: Student, asked: list[Request], sampling: Sampling) -> Completions:
    return engines["transformers"].open(student.model).generate(asked, sampling)


def test_the_likeliest_tokens_are_those_of_transformers_own_generation(student: Student) -> None:
    for request in requests(student):
        own = written(student, [request], student.sampling(12, 0.0))
        theirs = student.model.generate(
            input_ids=torch.tensor([request.prompt]),
            attention_mask=torch.ones(1, len(request.prompt), dtype=torch.long),
            max_new_tokens=12,
            do_sample=False,
            eos_token_id=student.end,
            pad_token_id=student.pad,
        )
        expected = theirs[0, len(request.prompt) :].tolist()
        assert own.tokens[0, : own.lengths[0]].tolist() == expected[: own.lengths[0]]


def test_log_probabilities_are_those_of_one_pass_over_prompt_and_completion(student: Student) -> None:
    asked, sampling = requests(student), student.sampling(9, 0.7)
    found = written(student, asked, sampling)
    rows = [row[:n] for row, n in zip(found.tokens.tolist(), found.lengths.tolist(), strict=True)]
    prompts = [request.prompt for request in asked for _ in range(request.count)]
    scorer = Scorer(student.model, student.prompting.closing[0], student.pad, temperature=0.7)
    scores = scorer(prompts, rows)
    width = found.log_probs.shape[1]
    torch.testing.assert_close(scores.log_probs[:, :width].detach(), found.log_probs, atol=1e-5, rtol=1e-4)
    assert scores.mask.sum(1).tolist() == found.lengths.tolist()


def test_completions_do_not_depend_on_what_else_is_in_the_batch(student: Student) -> None:
    asked, sampling = requests(student, count=6), student.sampling(16)
    # A likely end makes rows leave the batch at different times.
    with torch.no_grad():
        student.model.model.embed_tokens.weight[student.end] *= 3
    together = written(student, asked, sampling)
    apart = Completions.joined([written(student, [one], sampling) for one in asked], student.pad)
    assert len(set(together.lengths.tolist())) > 2
    assert together.tokens.tolist() == apart.tokens.tolist()
    assert together.ended.tolist() == apart.ended.tolist()
    assert written(student, asked, sampling).tokens.tolist() == together.tokens.tolist()


def test_modes_can_be_forced_and_half_of_them_carry_a_fair_coins_probability(student: Student) -> None:
    closing, sampling = student.prompting.closing, student.sampling(5)
    answers = written(student, requests(student, "answer"), sampling)
    assert (answers.tokens[:, 0] == closing[0]).all()
    thinks = written(student, requests(student, "think", 40), sampling)
    assert not (thinks.tokens[:, 0] == closing[0]).any()
    half = written(student, requests(student, "half"), sampling)
    first = half.tokens[:, 0].reshape(3, 4) == closing[0]
    assert first.tolist() == [[True, True, False, False]] * 3
    assert half.log_probs[:2, 0].exp().tolist() == pytest.approx([0.5, 0.5])
    prompt = torch.tensor([requests(student)[0].prompt])
    chances = student.model(prompt).logits[0, -1].softmax(-1).detach()
    expected = 0.5 * chances[half.tokens[2, 0]] / (1 - chances[closing[0]])
    assert float(half.log_probs[2, 0].exp()) == pytest.approx(float(expected), rel=1e-4)


def test_a_closing_tag_of_several_tokens_is_written_whole(student: Student) -> None:
    """Models without a token of their own for the tag spell it."""
    sampling = Sampling(6, (5, 6, 7), (student.end,), student.pad)
    found = written(student, requests(student, "answer"), sampling)
    assert (found.tokens[:, :3] == torch.tensor([5, 6, 7])).all()
    assert (found.log_probs[:, 1:3] < 0).all()
    thinks = written(student, requests(student, "think", 30), sampling)
    assert not (thinks.tokens[:, 0] == 5).any()


def test_frequencies_follow_the_models_probabilities(student: Student) -> None:
    request = Request(tuple(student.prompting.ids(QUESTIONS[0])), 4000, 1)
    found = written(student, [request], student.sampling(1))
    chances = student.model(torch.tensor([request.prompt])).logits[0, -1].softmax(-1).detach()
    frequencies = torch.bincount(found.tokens[:, 0], minlength=len(chances)) / 4000
    assert float((frequencies - chances).abs().max()) < 0.03


def test_without_vllm_one_sentence_says_what_to_do(student: Student) -> None:
    with pytest.raises(PrunePolicyError, match=r"reinforcement\.engine=transformers"):
        engines["vllm"].open(student.model)


def test_vllm_is_handed_the_weights_and_read_like_the_other_engine(
    student: Student, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against a stand-in that has the part of vLLM's interface that is used."""
    handed: dict[str, torch.Tensor] = {}
    inner = SimpleNamespace(load_weights=lambda pairs: handed.update(pairs))

    class Runner:
        def __init__(self, folder: str, logprobs_mode: str = "raw_logprobs", **_: Any) -> None:
            self.resets, self.raw = 0, logprobs_mode == "raw_logprobs"
            worker = SimpleNamespace(model_runner=SimpleNamespace(model=inner))
            executor = {"model_executor": SimpleNamespace(driver_worker=worker)}
            in_process = os.environ.get("VLLM_ENABLE_V1_MULTIPROCESSING", "1") == "0"
            self.llm_engine = SimpleNamespace(**(executor if in_process else {}))

        def reset_prefix_cache(self) -> None:
            self.resets += 1

        def generate(self, prompts: list[Any], settings: list[Any], use_tqdm: bool) -> list[Any]:
            outputs = []
            for how in settings:
                ids = [9, student.end][: how.max_tokens]
                logprob = -0.5 if self.raw else -0.5 / how.temperature
                chances = [{token: SimpleNamespace(logprob=logprob)} for token in ids]
                row = SimpleNamespace(token_ids=ids, logprobs=chances)
                outputs.append(SimpleNamespace(outputs=[row] * how.n))
            return outputs

    module = ModuleType("vllm")
    module.LLM, module.SamplingParams = Runner, SimpleNamespace  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", module)
    monkeypatch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "1")
    with pytest.raises(UsageError, match="starts from a folder"):
        engines["vllm"].open(student.model)
    student.model.config._name_or_path = "somewhere"
    engine = engines["vllm"].open(student.model)
    found = engine.generate(requests(student, "answer", 2), student.sampling(8, 2.0))
    assert found.tokens[0].tolist() == [*student.prompting.closing, 9, student.end]
    assert found.log_probs[0].tolist() == [0.0, -0.25, -0.25]  # at the temperature that was drawn at
    assert found.ended.all()
    assert len(found) == 6
    assert set(handed) == {name for name, _ in student.model.named_parameters()}
    with pytest.raises(UsageError, match="can't force the mode 'half'"):
        engine.generate(requests(student, "half"), student.sampling(8))
