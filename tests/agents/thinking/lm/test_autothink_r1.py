"""AutoThink for R1-style models: the published recipe's estimate, and its small twin from end to end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import Qwen2Config

from prunepolicy.agents.thinking.lm.estimate import GIB, ModelSizes, learner_memory
from prunepolicy.agents.thinking.lm.prompting import Prompting
from prunepolicy.agents.thinking.lm.recipe import ThinkRecipe
from prunepolicy.agents.thinking.lm.think_report import ThinkReport
from prunepolicy.agents.thinking.lm.tokens import BEGIN, r1_layout, reasoning_tokenizer
from prunepolicy.agents.training.recipe_file import load_recipe
from prunepolicy.cli import main

ROOT = Path(__file__).parents[4]
CONFIGS = ROOT / "configs" / "think"
R1 = {
    "vocab_size": 151936,
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "num_hidden_layers": 28,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
    "tie_word_embeddings": False,
}
"""Sizes of DeepSeek-R1-Distill-Qwen-1.5B."""


def test_r1s_prompt_begins_once_and_opens_one_thought() -> None:
    prompting = Prompting(r1_layout(reasoning_tokenizer()))
    tokenizer = prompting.tokenizer
    assert tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id
    text = tokenizer.decode(prompting.ids("What is 1 + 1?"))
    assert text == f"{BEGIN}<|user|>What is 1 + 1?<|assistant|><think>\n...\n"
    assert len(prompting.closing) == 1


def test_the_small_twin_differs_in_sizes_alone() -> None:
    published, small = (load_recipe(CONFIGS / f"{name}_r1.yaml") for name in ("autothink", "smoke"))
    assert isinstance(published, ThinkRecipe)
    assert isinstance(small, ThinkRecipe)
    assert published.prompt == small.prompt
    assert published.reinforcement.objective == small.reinforcement.objective
    assert [stage["terms"] for stage in published.stages] == [stage["terms"] for stage in small.stages]
    assert published.reinforcement.engine == small.reinforcement.engine == "trl"
    assert published.trl.entropy_coef == small.trl.entropy_coef


def test_memory_and_time_are_estimated_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Qwen2Config(**R1).save_pretrained(tmp_path / "r1")
    recipe = str(CONFIGS / "autothink_r1.yaml")
    assert main(["train", recipe, "--set", "model=r1", "--dry-run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["resources"]
    assert [one["gpus"] for one in found] == [1, 4, 8]
    assert found[0]["hours"] > found[1]["hours"] > found[2]["hours"]
    spent = found[0]["hours"]
    assert 700 / 3 < spent < 700 * 3  # published: about 700 H100-hours
    assert 33 < found[0]["memory"] < 80
    assert not list(tmp_path.glob("runs*"))
    assert main(["train", str(CONFIGS / "tiny.yaml"), "--dry-run"]) == 2
    assert "reinforcement.engine=trl" in capsys.readouterr().err
    assert main(["train", recipe, "--set", "model=nowhere/", "--dry-run"]) == 1
    assert "Can't read the configuration of nowhere/" in " ".join(capsys.readouterr().err.split())


def test_memory_is_that_of_the_pieces_that_were_measured() -> None:
    """117 KiB per token and layer are kept for the backward pass, on a CPU in float32."""
    sizes = ModelSizes(1_777_088_000, 28, 1536, 8960, 512)
    assert sizes.layer_values * 4 / 1024 == pytest.approx(117, rel=0.02)
    recipe = load_recipe(CONFIGS / "autothink_r1.yaml")
    assert isinstance(recipe, ThinkRecipe)
    whole = recipe.model_copy(update={"trl": recipe.trl.model_copy(update={"gradient_checkpointing": False})})
    tokens, saved = 1024 + 24576, learner_memory(sizes, whole) - learner_memory(sizes, recipe)
    assert saved == pytest.approx(4 * tokens * (27 * sizes.layer_values - 28 * 1536) / GIB)


@pytest.mark.filterwarnings("ignore")
def test_the_small_twin_is_trained_interrupted_resumed_evaluated_and_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], interrupt_at: Callable[..., None]
) -> None:
    pytest.importorskip("trl")
    from prunepolicy.agents.thinking.lm.trl_grpo import TrlGrpo

    recipe, run = str(CONFIGS / "smoke_r1.yaml"), tmp_path / "smoke"
    interrupt_at(TrlGrpo, "step", 17)
    assert main(["train", recipe, "--out", str(run)]) == 130
    assert main(["train", recipe, "--out", str(run), "--resume"]) == 0
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    stages = [row["stage"] for row in rows if "stage" in row]
    assert stages == [0, 0, 1, 1, 2, 2]
    assert {"think", "mixed", "entropy", "unfinished", "kl", "verifier_errors"} <= {
        k for row in rows for k in row
    }
    assert set(ThinkReport.load(run).learned) == {"auto", "always", "never"}
    capsys.readouterr()
    assert main(["eval", str(run), "--think", "never", "--limit", "2", "--json"]) == 0
    examined = json.loads(capsys.readouterr().out)
    assert (examined["result"]["think"], examined["settings"]["problems"]) == (0, 2)
