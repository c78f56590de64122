"""Which positions of a call hold tokens is read from every form that attention masks have."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from prunepolicy.policy.adaptive.model_call import ModelCall, real_positions

PADDED = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
"""Five positions, of which three are in the cache."""
ALLOWED = PADDED[:, None, None].bool() & torch.ones(5, 7, dtype=torch.bool).tril()[:, :5]


@pytest.mark.parametrize(
    "mask",
    [
        pytest.param(PADDED, id="positions"),
        pytest.param(ALLOWED, id="queries by positions"),
        pytest.param(torch.zeros(2, 1, 5, 5).masked_fill(~ALLOWED, -1e9), id="added to scores"),
        pytest.param({"full_attention": ALLOWED, "sliding_attention": ALLOWED}, id="by kind of attention"),
    ],
)
def test_padding_is_found_in_every_form_of_mask(mask: Any) -> None:
    assert torch.equal(real_positions(mask, 2, 5, 0), PADDED.bool())


def test_queries_after_a_cache_are_those_of_the_last_positions() -> None:
    assert torch.equal(real_positions(PADDED, 2, 3, 2), PADDED[:, 2:].bool())
    assert torch.equal(real_positions(ALLOWED[:, :, 1:], 2, 4, 1), PADDED[:, 1:].bool())
    assert real_positions(None, 2, 3, 2).all()


def test_prompts_are_told_apart_by_tokens_padding_and_what_came_before() -> None:
    tokens = torch.arange(10).reshape(2, 5)
    plain, padded = (ModelCall.of((tokens,), {"attention_mask": mask}) for mask in (None, PADDED))
    other = ModelCall.of((), {"input_ids": tokens + 1})
    keys = [plain.key_after(b""), padded.key_after(b""), other.key_after(b""), plain.key_after(b"before")]
    assert len({*keys}) == 4
    assert plain.key_after(b"") == keys[0]
    assert plain.key_after(None) is None
    assert ModelCall.of((), {"inputs_embeds": torch.rand(2, 5, 8)}).key_after(b"") is None
