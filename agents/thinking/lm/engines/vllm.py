"""Generation with vLLM, where it is installed; the one door for it.

The model's present weights are handed over before every call. Completions are seeded per request, but they
are not those that the transformers engine writes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Self

import torch

from prunepolicy.agents.thinking.lm.engines.registry import Completions, Engine, Request, Sampling, engines
from prunepolicy.pruning.errors import PrunePolicyError, UsageError

APART = "VLLM_ENABLE_V1_MULTIPROCESSING"
MEMORY = 0.4
"""Share of the device's memory that vLLM may take; the model that learns lies beside it."""


@engines.register
class VllmEngine(Engine):
    """Runs the model a second time, in vLLM, on the same device."""

    def __init__(self, model: Any, runner: Any) -> None:
        self.model, self.runner = model, runner

    @classmethod
    def open(cls, model: Any, device: str = "auto") -> Self:
        """Start vLLM on the folder that the model came from.

        Raises:
            PrunePolicyError: when vLLM isn't installed.
            UsageError: for a model that came from no folder.
        """
        try:
            from vllm import LLM
        except ImportError as error:
            raise PrunePolicyError(
                "vLLM isn't installed: pip install vllm, or set reinforcement.engine=transformers."
            ) from error
        folder = model.config._name_or_path
        if not folder:
            raise UsageError("vLLM starts from a folder: save the model, and name it under `model`.")
        os.environ[APART] = "0"  # else the weights lie in another process, out of reach
        # By itself it tells log-probabilities at temperature 1, whatever it drew at.
        drawn_at = {"logprobs_mode": "processed_logprobs"}
        return cls(model, LLM(folder, gpu_memory_utilization=MEMORY, skip_tokenizer_init=True, **drawn_at))

    def __getstate__(self) -> dict[str, Any]:
        """Refuse to travel: vLLM has workers of its own."""
        raise UsageError(
            "vLLM spreads over GPUs by itself: leave --cluster out, or set reinforcement.engine=transformers."
        )

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> Completions:
        """Write all completions of all requests with the model's present weights.

        Raises:
            UsageError: for modes that only the transformers engine can force.
        """
        self._hand_over()
        rows = [(request, _given(request, sampling)) for request in requests]
        outputs = self.runner.generate(
            [{"prompt_token_ids": [*request.prompt, *given]} for request, given in rows],
            [_settings(request, sampling, len(given)) for request, given in rows],
            use_tqdm=False,
        )
        parts = [
            _completion(given, written, sampling)
            for (_, given), output in zip(rows, outputs, strict=True)
            for written in output.outputs
        ]
        return Completions.joined(parts, sampling.pad)

    def _hand_over(self) -> None:
        inner = self.runner.llm_engine.model_executor.driver_worker.model_runner.model
        inner.load_weights([(name, tensor.detach()) for name, tensor in self.model.named_parameters()])
        self.runner.reset_prefix_cache()


def _given(request: Request, sampling: Sampling) -> list[int]:
    """Return the tokens that the request writes itself."""
    if request.force in ("half", "think"):
        raise UsageError(
            f"vLLM can't force the mode {request.force!r}: set reinforcement.engine=transformers."
        )
    return list(sampling.closing) if request.force == "answer" else []


def _settings(request: Request, sampling: Sampling, given: int) -> Any:
    from vllm import SamplingParams

    return SamplingParams(
        n=request.count,
        temperature=sampling.temperature,
        max_tokens=sampling.max_tokens - given,
        stop_token_ids=list(sampling.end),
        seed=request.seed,
        logprobs=0,
        detokenize=False,
    )


def _completion(given: list[int], written: Any, sampling: Sampling) -> Completions:
    """Return one row; what the request wrote itself has probability 1."""
    ids = [*given, *written.token_ids]
    own = [step[token].logprob for step, token in zip(written.logprobs, written.token_ids, strict=True)]
    return Completions(
        torch.tensor([ids]),
        torch.tensor([len(ids)]),
        torch.tensor([[0.0] * len(given) + own]),
        torch.tensor([ids[-1] in sampling.end]),
    )
