"""Write the files that name tokens as they are when some tokens have gone: the tokenizer, and settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from prunepolicy.pruning.checkpoint.checkpoint import Checkpoint, read_json
from prunepolicy.pruning.errors import BadCheckpointError, PrunePolicyError
from prunepolicy.pruning.io.atomic import write_text
from prunepolicy.pruning.plan import Plan
from prunepolicy.pruning.units import VOCABULARY
from prunepolicy.pruning.vocabulary.token_settings import ids_named, with_new_ids
from prunepolicy.pruning.vocabulary.tokenizer_file import TOKENIZER, TokenizerFile

GENERATION = "generation_config.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
ADDED = "added_tokens.json"
OTHER_FORMS = (
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "tokenizer.model",
    "tokenizer.model.v3",
    "sentencepiece.bpe.model",
    "sentencepiece.model",
    "spiece.model",
    "spm.model",
)
"""Files that hold the same vocabulary as `tokenizer.json`, which is written alone."""
ANOTHER_FORM = f"another form of the vocabulary; {TOKENIZER} has it"


@dataclass(frozen=True)
class VocabularyCut:
    """Which tokens of a model's vocabulary stay.

    Attributes:
        kept: their ids, sorted; a token's place among them is its new id.
        rows: of the embedding, which may have more than the tokenizer has tokens.
    """

    folder: Path
    tokenizer: TokenizerFile
    kept: tuple[int, ...]
    rows: int

    @classmethod
    def of(cls, checkpoint: Checkpoint, plan: Plan) -> VocabularyCut | None:
        """Return what `plan` does to the vocabulary of a model; None where it leaves it alone.

        Raises:
            UnsupportedModelError: when the tokenizer's tokens can't be taken out.
            PrunePolicyError: when a token goes without which texts couldn't be read.
        """
        if VOCABULARY not in plan.keep:
            return None
        rows = checkpoint.graph[VOCABULARY].size
        if len(plan.keep[VOCABULARY]) == rows:
            return None
        cut = cls(checkpoint.folder, tokenizer_of(checkpoint), plan.keep[VOCABULARY], rows)
        cut._check(needed_tokens(checkpoint, cut.tokenizer))
        return cut

    @cached_property
    def new_ids(self) -> dict[int, int]:
        """New ids by the old ones."""
        return {old: new for new, old in enumerate(self.kept)}

    def _check(self, needed: frozenset[int]) -> None:
        if gone := sorted(needed.difference(self.kept)):
            token = self.tokenizer.tokens.get(gone[0], "")
            raise PrunePolicyError(
                f"The plan removes {len(gone)} tokens that every text may need (special ones, letters, "
                f"bytes), the first is token {gone[0]}, {token!r:.40}; at least {len(needed)} must stay."
            )

    def write(self, folder: Path) -> None:
        """Write tokenizer and settings into a folder that has copies of the old ones."""
        _write_json(folder / TOKENIZER, self.tokenizer.without(self.new_ids))
        for name in (GENERATION, TOKENIZER_CONFIG, ADDED):
            if (self.folder / name).is_file():
                _write_json(folder / name, self._rewritten(name, read_json(self.folder / name)))

    def config(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return a model's configuration with the new ids."""
        return with_new_ids(config, self.new_ids, self.rows)

    def _rewritten(self, name: str, settings: dict[str, Any]) -> dict[str, Any]:
        if name == ADDED:
            return {token: self.new_ids[number] for token, number in settings.items()}
        if name == GENERATION:
            return with_new_ids(settings, self.new_ids, self.rows)
        decoder = settings.get("added_tokens_decoder")
        if not isinstance(decoder, dict):
            return settings
        renumbered = {str(self.new_ids[int(number)]): token for number, token in decoder.items()}
        return {**settings, "added_tokens_decoder": renumbered}


def tokenizer_of(checkpoint: Checkpoint) -> TokenizerFile:
    """Return the tokenizer of a model whose vocabulary is to be cut.

    Raises:
        UnsupportedModelError: when there is none whose tokens can be taken out.
        BadCheckpointError: when it has tokens for which the embedding has no row.
    """
    tokenizer, rows = TokenizerFile.read(checkpoint.folder), checkpoint.graph[VOCABULARY].size
    if (largest := max(tokenizer.tokens, default=0)) >= rows:
        raise BadCheckpointError(
            f"The tokenizer in {checkpoint.folder} knows {tokenizer.tokens[largest]!r:.40} as token "
            f"{largest}, but the embedding has {rows} rows; resize the embedding and save the model again."
        )
    return tokenizer


def needed_tokens(checkpoint: Checkpoint, tokenizer: TokenizerFile) -> frozenset[int]:
    """Return the ids that never go: those the tokenizer needs, and those that settings name."""
    named = ids_named(checkpoint.config)
    if (checkpoint.folder / GENERATION).is_file():
        named |= ids_named(read_json(checkpoint.folder / GENERATION))
    config = checkpoint.folder / TOKENIZER_CONFIG
    decoder = read_json(config).get("added_tokens_decoder") if config.is_file() else None
    added = {int(number) for number in decoder} if isinstance(decoder, dict) else set()
    rows = checkpoint.graph[VOCABULARY].size
    return frozenset(number for number in tokenizer.essential | named | added if 0 <= number < rows)


def _write_json(file: Path, value: Any) -> None:
    write_text(file, json.dumps(value, indent=2, ensure_ascii=False) + "\n")
