"""How different several texts are from each other."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

LONGEST_GRAM = 3


def diversity(texts: Sequence[str]) -> float:
    """Return one minus the mean self-BLEU of one to three words; 0 for equal texts, 1 for foreign ones.

    Fewer than two texts have none. Source: MMR1's trajectory diversity (arXiv 2509.21268).
    """
    words = [text.split() for text in texts]
    if len(words) < 2:
        return 0.0
    scores = [_bleu(text, [*words[:i], *words[i + 1 :]]) for i, text in enumerate(words)]
    return 1 - sum(scores) / len(scores)


def _bleu(text: Sequence[str], others: Sequence[Sequence[str]]) -> float:
    """Return BLEU with equal weights; 0 where no phrase of some length is shared."""
    shared = []
    for length in range(1, min(LONGEST_GRAM, len(text)) + 1):
        grams, known = _grams(text, length), [_grams(other, length) for other in others]
        hits = sum(min(n, max(counts[gram] for counts in known)) for gram, n in grams.items())
        shared.append(hits / grams.total())
    if not shared or not all(shared):
        return 0.0
    nearest = min((abs(len(other) - len(text)), len(other)) for other in others)[1]
    short = min(0.0, 1 - nearest / len(text))
    return math.exp(short + sum(map(math.log, shared)) / len(shared))


def _grams(words: Sequence[str], length: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[i : i + length]) for i in range(len(words) - length + 1))
