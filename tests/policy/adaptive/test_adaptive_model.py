"""A model that reads with all channels writes with those that its text needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import transformers
from torch import Tensor, nn

from prunepolicy.policy.adaptive.adaptive_model import AdaptiveModel
from prunepolicy.policy.adaptive.adaptive_text import ChoiceSchedule
from prunepolicy.policy.adaptive.selection import ChannelChoice
from prunepolicy.policy.kinds.text import Text
from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint
from prunepolicy.pruning.errors import PrunePolicyError
from prunepolicy.pruning.plan import Budget, Plan
from prunepolicy.pruning.statistics.gates import gates, masked
from prunepolicy.pruning.statistics.text_energy import TextEnergy, outgoing_norms, text_energy

Make = Callable[..., Checkpoint]
FAMILIES = ["llama", "qwen3", "gemma", "gemma2", "mistral", "gpt2", "gpt_neox", "opt", "phi3"]
FIRST_ONLY = ChoiceSchedule(measure_every=0)
TOKENS = torch.randint(3, 64, (3, 60), generator=torch.Generator().manual_seed(1))


@dataclass
class Recorder:
    """Scores by the text's own energies, and remembers which it was asked for."""

    norms: Mapping[str, Tensor]
    asked: list[TextEnergy] = field(default_factory=list)

    def __call__(self, text: TextEnergy) -> dict[str, Tensor]:
        self.asked.append(text)
        return {name: energy.sqrt() * self.norms[name] for name, energy in text.energy.items()}


@dataclass
class Adapted:
    """A tiny model twice: adaptive, and as it was."""

    adaptive: AdaptiveModel
    plain: nn.Module
    checkpoint: Checkpoint
    recorder: Recorder

    def masked(self, choice: ChannelChoice, row: int = 0) -> Any:
        """The plain model with the chosen channels alone."""
        keep = {name: tuple(mask[row].nonzero().flatten().tolist()) for name, mask in choice.masks.items()}
        return masked(self.plain, self.checkpoint.graph, Plan(keep, Budget(0.5, "ffn"), "test"))


Adapt = Callable[..., Adapted]


@pytest.fixture
def adapt(tiny_checkpoint: Make) -> Adapt:
    def adapt(model_type: str = "llama", keep: float = 0.5, **settings: Any) -> Adapted:
        checkpoint = tiny_checkpoint(model_type)
        first, second = (checkpoint.adapter.load(checkpoint.folder, torch.float32) for _ in range(2))
        recorder = Recorder(outgoing_norms(first, checkpoint.graph))
        settings = {"schedule": FIRST_ONLY} | settings
        return Adapted(
            AdaptiveModel(first, checkpoint.graph, recorder, keep, **settings), second, checkpoint, recorder
        )

    return adapt


def written(model: Any, prompt: Tensor, given: Tensor, **named: Any) -> Tensor:
    """Logits of reading a prompt and then token after token of what is given."""
    with torch.no_grad():
        read = model(input_ids=prompt, use_cache=True, **named)
        logits, cache = [read.logits], read.past_key_values
        for token in given.T:
            if "attention_mask" in named:
                named["attention_mask"] = nn.functional.pad(named["attention_mask"], (0, 1), value=1)
            logits.append(model(input_ids=token[:, None], past_key_values=cache, **named).logits)
    return torch.cat(logits, 1)


@pytest.mark.parametrize("model_type", FAMILIES)
def test_it_reads_densely_and_writes_as_the_masked_model_does(model_type: str, adapt: Adapt) -> None:
    it = adapt(model_type)
    prompt, given = TOKENS[:2, :40], TOKENS[:2, 40:46]
    found = written(it.adaptive, prompt, given)
    choice = it.adaptive.choose()
    assert {int(mask.sum()) for mask in choice.masks.values()} == {
        group.size // 2 for group in it.checkpoint.graph.of_kind("ffn")
    }
    with torch.no_grad():
        read = it.plain(input_ids=prompt, use_cache=True)
        assert torch.equal(found[:, :40], read.logits)
        with it.masked(choice):
            for position, token in enumerate(given.T):
                step = it.plain(input_ids=token[:, None], past_key_values=read.past_key_values)
                torch.testing.assert_close(found[:, 40 + position], step.logits[:, 0], rtol=1e-4, atol=1e-4)
    dense = written(it.plain, prompt, given)
    assert (found[:, 40:] - dense[:, 40:]).abs().max() > 1e-2


@pytest.mark.parametrize("model_type", FAMILIES)
def test_with_all_channels_it_is_the_dense_model(model_type: str, adapt: Adapt) -> None:
    it = adapt(model_type, keep=1.0)
    assert torch.equal(
        written(it.adaptive, TOKENS[:, :40], TOKENS[:, 40:44]),
        written(it.plain, TOKENS[:, :40], TOKENS[:, 40:44]),
    )
    with it.adaptive.chosen() as model:
        assert torch.equal(model(TOKENS).logits, it.plain(TOKENS).logits)
    assert not it.recorder.asked
    assert it.adaptive.extra_bytes == 0


def test_the_statistic_is_that_of_the_prompt(adapt: Adapt) -> None:
    it = adapt()
    written(it.adaptive, TOKENS[:1, :40], TOKENS[:1, 40:42])
    (seen,) = it.recorder.asked
    expected = text_energy(it.plain, it.checkpoint.graph, TOKENS[:1, :40])
    assert seen.tokens == expected.tokens == 40
    torch.testing.assert_close(dict(seen.energy), dict(expected.energy))


def left_padded() -> tuple[Tensor, Tensor]:
    prompt, mask = TOKENS[:2, :40].clone(), torch.ones(2, 40, dtype=torch.long)
    prompt[0, :5] = mask[0, :5] = 0
    return prompt, mask


def test_padding_counts_for_nothing(adapt: Adapt) -> None:
    it = adapt(masks="row")
    prompt, mask = left_padded()
    written(it.adaptive, prompt, TOKENS[:2, 40:42], attention_mask=mask)
    for row, start in ((0, 5), (1, 0)):
        alone = text_energy(it.plain, it.checkpoint.graph, prompt[row : row + 1, start:])
        assert it.recorder.asked[row].tokens == 40 - start
        torch.testing.assert_close(
            dict(it.recorder.asked[row].energy), dict(alone.energy), rtol=1e-3, atol=1e-5
        )


def test_one_mask_serves_the_batch_from_the_tokens_of_all_rows(adapt: Adapt) -> None:
    it = adapt()
    prompt, mask = left_padded()
    written(it.adaptive, prompt, TOKENS[:2, 40:42], attention_mask=mask)
    (seen,) = it.recorder.asked
    rows = [
        text_energy(it.plain, it.checkpoint.graph, prompt[row : row + 1, 5 - 5 * row :]) for row in (0, 1)
    ]
    assert seen.tokens == 75
    pooled = TextEnergy.pooled(rows)
    torch.testing.assert_close(dict(seen.energy), dict(pooled.energy), rtol=1e-3, atol=1e-5)


def test_rows_with_masks_of_their_own_are_written_as_if_alone(adapt: Adapt) -> None:
    it = adapt(masks="row")
    prompt, given = TOKENS[:, :40], TOKENS[:, 40:46]
    together = written(it.adaptive, prompt, given)
    choice = it.adaptive.choose()
    assert any(not torch.equal(mask[0], mask[1]) for mask in choice.masks.values())
    for row in range(3):
        alone = written(it.adaptive, prompt[row : row + 1], given[row : row + 1])
        torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-4, atol=1e-4)


def test_generate_streams_and_beams_as_transformers_does(adapt: Adapt) -> None:
    it = adapt()
    prompt = TOKENS[:1, :40]

    class Streamer(transformers.generation.streamers.BaseStreamer):  # type: ignore[misc]
        tokens: ClassVar[list[int]] = []

        def put(self, value: Tensor) -> None:
            self.tokens += value.flatten().tolist()

        def end(self) -> None:
            pass

    settings = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    tokens = it.adaptive.generate(prompt, streamer=Streamer(), **settings)
    assert Streamer.tokens == tokens[0].tolist()
    choice = it.adaptive.choose()
    found = written(it.adaptive, prompt, tokens[:, 40:47])
    assert torch.equal(found[:, 39:].argmax(-1), tokens[:, 40:])
    assert it.adaptive.choose() is choice
    beams = it.adaptive.generate(prompt, num_beams=3, **settings)
    assert beams.shape == (1, 48)


def test_prompts_that_are_read_in_parts_give_one_choice(adapt: Adapt) -> None:
    it = adapt()
    settings = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    whole = it.adaptive.generate(TOKENS[:1, :40], **settings)
    in_parts = it.adaptive.generate(TOKENS[:1, :40], prefill_chunk_size=16, **settings)
    assert torch.equal(whole, in_parts)
    first, second = it.recorder.asked
    assert first.tokens == second.tokens == 40


def test_a_static_cache_does_as_well(adapt: Adapt) -> None:
    it = adapt()
    settings = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    prompt, mask = left_padded()
    found = [
        it.adaptive.generate(prompt, attention_mask=mask, cache_implementation=kind, **settings)
        for kind in (None, "static")
    ]
    assert torch.equal(found[0], found[1])
    assert {text.tokens for text in it.recorder.asked} == {75}


def test_a_prompt_that_is_known_is_neither_watched_nor_chosen_for_again(
    adapt: Adapt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prunepolicy.policy.adaptive.adaptive_model.REMEMBERED", 2)
    it = adapt()

    def write(row: int) -> Tensor:
        return written(it.adaptive, TOKENS[row : row + 1, :40], TOKENS[row : row + 1, 40:43])

    first = write(0)
    write(1)
    assert torch.equal(write(0), first)
    assert len(it.recorder.asked) == 2
    write(2)  # row 1 is what was used longest ago
    write(0)
    assert len(it.recorder.asked) == 3
    write(1)
    assert len(it.recorder.asked) == 4


def test_texts_that_take_turns_keep_their_channels(adapt: Adapt) -> None:
    it = adapt()
    expected = [written(it.adaptive, TOKENS[r : r + 1, :40], TOKENS[r : r + 1, 40:44]) for r in (0, 1)]
    with torch.no_grad():
        read = [it.adaptive(input_ids=TOKENS[r : r + 1, :40], use_cache=True) for r in (0, 1)]
        for position in range(40, 44):
            for row in (0, 1):
                token = TOKENS[row : row + 1, position : position + 1]
                step = it.adaptive(input_ids=token, past_key_values=read[row].past_key_values)
                torch.testing.assert_close(step.logits[:, 0], expected[row][:, position])


def test_a_short_prompt_is_continued_densely_until_enough_is_known(adapt: Adapt) -> None:
    it = adapt()
    prompt, given = TOKENS[:1, :20], TOKENS[:1, 20:50]
    found, dense = (written(model, prompt, given) for model in (it.adaptive, it.plain))
    assert torch.equal(found[:, :32], dense[:, :32])
    assert (found[:, 32:] - dense[:, 32:]).abs().amax(-1).min() > 1e-3
    (seen,) = it.recorder.asked
    assert seen.tokens == 32
    expected = text_energy(it.plain, it.checkpoint.graph, TOKENS[:1, :32])
    torch.testing.assert_close(dict(seen.energy), dict(expected.energy), rtol=1e-3, atol=1e-5)


def test_the_choice_is_made_again_after_so_many_tokens(adapt: Adapt) -> None:
    it = adapt(schedule=ChoiceSchedule(measure_every=4, every=8, drift=1.0))
    found = written(it.adaptive, TOKENS[:1, :40], TOKENS[:1, 40:54])
    first, second = it.recorder.asked
    assert (first.tokens, second.tokens) == (40, 42)
    for name, energy in second.energy.items():
        # The two watched steps stand for the eight that were written.
        assert not torch.allclose(energy, first.energy[name])
    assert found.shape == (1, 54, 64)


def test_a_text_that_drifts_counts_as_a_new_one(adapt: Adapt) -> None:
    steady = adapt(schedule=ChoiceSchedule(measure_every=2, every=100, drift=1.0))
    written(steady.adaptive, TOKENS[:1, :32], TOKENS[:1, 32:60])
    assert len(steady.recorder.asked) == 1
    it = adapt(schedule=ChoiceSchedule(least=8, measure_every=2, every=100, drift=1e-9))
    # The same token again and again is another text than the prompt.
    written(it.adaptive, TOKENS[:1, :32], torch.full((1, 28), 5))
    assert [text.tokens for text in it.recorder.asked[:2]] == [32, 8]


def test_outside_of_its_calls_the_model_is_whole(adapt: Adapt) -> None:
    it = adapt()
    before = {name: tensor.clone() for name, tensor in it.adaptive.model.state_dict().items()}
    written(it.adaptive, TOKENS[:1, :40], TOKENS[:1, 40:44])
    assert it.adaptive.extra_bytes > 0
    with torch.no_grad():
        read = it.adaptive(input_ids=TOKENS[:1, :40], use_cache=True)

        def fail(*args: object) -> None:
            raise RuntimeError("out of memory")

        handle = it.adaptive.model.model.layers[2].register_forward_pre_hook(fail)
        with pytest.raises(RuntimeError, match="out of memory"):
            it.adaptive(input_ids=TOKENS[:1, 40:41], past_key_values=read.past_key_values)
        handle.remove()
    after = it.adaptive.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], tensor) for name, tensor in after.items())


def test_the_dense_model_is_at_hand(adapt: Adapt) -> None:
    it = adapt()
    with it.adaptive.dense() as model:
        found = written(model, TOKENS[:1, :40], TOKENS[:1, 40:44])
    assert torch.equal(found, written(it.plain, TOKENS[:1, :40], TOKENS[:1, 40:44]))
    assert not it.recorder.asked
    with pytest.raises(PrunePolicyError, match="nothing yet"):
        it.adaptive.choose()


def test_the_chosen_model_reads_with_its_channels_too(adapt: Adapt) -> None:
    it = adapt()
    with torch.no_grad():
        it.adaptive(input_ids=TOKENS[:1, :40])
        with it.adaptive.chosen() as model:
            found = model(input_ids=TOKENS[1:]).logits
        with it.masked(it.adaptive.choose()):
            expected = it.plain(input_ids=TOKENS[1:]).logits
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_choices_made_in_inference_mode_serve_outside_of_it(adapt: Adapt) -> None:
    it = adapt()
    with torch.inference_mode():
        first = written(it.adaptive, TOKENS[:1, :40], TOKENS[:1, 40:44])
    assert torch.equal(written(it.adaptive, TOKENS[:1, :40], TOKENS[:1, 40:44]), first)
    written(it.adaptive, TOKENS[1:2, :40], TOKENS[1:2, 40:44])
    assert len(it.recorder.asked) == 2


def test_rows_that_join_later_have_no_mask(adapt: Adapt) -> None:
    it = adapt(masks="row")
    with torch.no_grad():
        read = it.adaptive(input_ids=TOKENS[:2, :40], use_cache=True)
        it.adaptive(input_ids=TOKENS[:2, 40:41], past_key_values=read.past_key_values)
        read.past_key_values.batch_repeat_interleave(2)
        with pytest.raises(PrunePolicyError, match="2 rows with a mask each; 4 rows go on"):
            it.adaptive(input_ids=TOKENS[:1, 41:42].expand(4, 1), past_key_values=read.past_key_values)


@pytest.mark.parametrize(
    ("model_type", "sentence"),
    [("mixtral", "has experts"), ("bert", "doesn't write text"), ("cifar_resnet", "doesn't write text")],
)
def test_what_cannot_be_adapted_is_refused(model_type: str, sentence: str, tiny_checkpoint: Make) -> None:
    with pytest.raises(PrunePolicyError, match=sentence):
        AdaptiveModel.from_pretrained(tiny_checkpoint(model_type).folder)


@pytest.mark.parametrize("keep", [0.0, 1.5])
def test_a_senseless_share_is_refused(keep: float, adapt: Adapt) -> None:
    with pytest.raises(PrunePolicyError, match="keep is the fraction"):
        adapt(keep=keep)


def test_senseless_schedules_are_refused() -> None:
    with pytest.raises(PrunePolicyError, match="at least 1"):
        ChoiceSchedule(every=0)


@pytest.fixture
def speaking(tiny_checkpoint: Make, byte_tokenizer: transformers.PreTrainedTokenizerFast) -> Checkpoint:
    checkpoint = tiny_checkpoint("llama", vocab_size=258, max_position_embeddings=256)
    byte_tokenizer.save_pretrained(checkpoint.folder)
    return checkpoint


def choices_of(policy: str | Path, checkpoint: Checkpoint) -> list[dict[str, Tensor]]:
    """What is chosen for two texts."""
    adaptive = AdaptiveModel.from_pretrained(checkpoint.folder, policy, device="cpu", dtype="float32")
    choices = []
    for text in ("The same channels for each text?" * 2, "0123456789" * 5):
        prompt = adaptive.tokenizer(text, return_tensors="pt")
        assert len(adaptive.generate(**prompt, max_new_tokens=4, pad_token_id=0)) == 1
        choices.append(dict(adaptive.choose().masks))
    return choices


def are_same(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(mask, second[name]) for name, mask in first.items())


@pytest.mark.parametrize("policy", ["plain", "blend", "generic"])
def test_built_in_choices_by_name(policy: str, speaking: Checkpoint) -> None:
    first, second = choices_of(policy, speaking)
    assert are_same(first, second) == (policy == "generic")


def test_a_saved_policy_chooses_on_its_own_network_alone(speaking: Checkpoint, tmp_path: Path) -> None:
    generic = torch.rand(3 * 48)
    for network, name in ((speaking.fingerprint, "own"), ("another", "other")):
        numbers = {"generic": generic, "weight": torch.tensor([1e9])}
        Text.fitted("blend", numbers, network).save(tmp_path / name)
    first, second = choices_of(tmp_path / "own", speaking)
    assert are_same(first, second)
    with pytest.raises(PrunePolicyError, match="another network"):
        AdaptiveModel.from_pretrained(speaking.folder, tmp_path / "other")


@pytest.mark.parametrize(
    ("policy", "sentence"), [("plian", "no policy 'plian'"), ("fisher", "doesn't read text")]
)
def test_policies_that_do_not_serve_are_refused(policy: str, sentence: str, speaking: Checkpoint) -> None:
    with pytest.raises(PrunePolicyError, match=sentence):
        AdaptiveModel.from_pretrained(speaking.folder, policy)


def test_its_masks_are_those_of_the_gates(adapt: Adapt) -> None:
    it = adapt(masks="row")
    prompt = TOKENS[:2, :40]
    with torch.no_grad():
        it.adaptive(input_ids=prompt)
        choice = it.adaptive.choose()
        with it.adaptive.chosen() as model:
            found = model(input_ids=prompt).logits
        values = {name: mask.float() for name, mask in choice.masks.items()}
        with gates(it.plain, it.checkpoint.graph, values):
            torch.testing.assert_close(found, it.plain(input_ids=prompt).logits, rtol=1e-4, atol=1e-4)
