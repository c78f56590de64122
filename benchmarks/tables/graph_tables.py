"""The comparison of graph policies with hand-made criteria: right after the cut, and after a repair."""

from __future__ import annotations

from typing import Any

from policy_tables import KEEPS, SHAPES, Comparison, Place, against_hand_made, ranking, seconds, small_models

INTRODUCTION = """## Graph policies

{model}, {dtype}, {machine}, one thread; {texts}. Nothing was chosen, and no policy trained, on them.
Excess log-perplexity over the dense model in nats per token, as in the section above. Where parameters are
budgeted, widths are multiples of {multiple_of}, so that every method spends the whole budget. `graph`
calibrates on varied text, as the default does, and so do the criteria that say so. It decides how many
layers go beside channels, in the order of what was measured without each; `unlearned` is the same policy
before training: what its calibration data, the measuring and the usual number of layers are worth. The
`graph` of the section above is the same, without multiples of {multiple_of}.
"""
AGAINST = {
    ("selection",): "Right after the cut",
    ("repaired",): "After the same repair, the default's; first seed",
    ("small",): "On families unseen in training, right after the cut",
}


def graph_policies(results: dict[str, Any]) -> str:
    """Return the whole section."""
    found = Comparison(results["rows"])
    parts = [INTRODUCTION.format(**results)]
    for blocks, title in AGAINST.items():
        parts += against_hand_made(found, blocks, title)
    for uniform, of in ((u, of) for u in SHAPES for of in ("ffn", "params")):
        texts = [Place(of, keep, uniform, text=text) for text in ("prose", "code") for keep in KEEPS]
        parts += ranking(f"All, of {of}, {SHAPES[uniform]}", found, texts)
    for uniform, of in ((u, of) for u in SHAPES for of in ("ffn", "params")):
        texts = [Place(of, keep, uniform, "repaired", text=t) for t in ("prose", "code") for keep in KEEPS]
        parts += ranking(f"All after the repair, of {of}, {SHAPES[uniform]}", found, texts)
    return "\n".join([*parts, *seconds(found), *small_models(found)])
