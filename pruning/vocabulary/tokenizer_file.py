"""A `tokenizer.json`: its tokens, which of them can go, and the file that is left without them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from prunepolicy.pruning.errors import BadCheckpointError, UnsupportedModelError
from prunepolicy.pruning.io import bounded
from prunepolicy.pruning.vocabulary.bpe import BytePairs
from prunepolicy.pruning.vocabulary.token_model import TokenModel
from prunepolicy.pruning.vocabulary.unigram import Unigram
from prunepolicy.pruning.vocabulary.wordpiece import WordPieces

TOKENIZER = "tokenizer.json"
MODELS: dict[str, type[TokenModel]] = {"BPE": BytePairs, "Unigram": Unigram, "WordPiece": WordPieces}
KEYS = {"merges": "BPE", "unk_id": "Unigram", "max_input_chars_per_word": "WordPiece"}
"""What tells the algorithm in files that don't name it."""
WITHOUT_IDS = ("ByteLevel",)
"""Post-processors that name no token."""


@dataclass(frozen=True)
class TokenizerFile:
    """A `tokenizer.json`, read and understood.

    Attributes:
        data: the whole file.
        model: the part of it that splits words into tokens.
    """

    data: Mapping[str, Any]
    model: TokenModel

    @classmethod
    def read(cls, folder: Path) -> TokenizerFile:
        """Read the one in a model's folder.

        Raises:
            UnsupportedModelError: when there is none, or one whose tokens can't be taken out.
            BadCheckpointError: when it is damaged.
        """
        file = folder / TOKENIZER
        if not file.is_file():
            raise UnsupportedModelError(
                f"{folder} has no {TOKENIZER}; a vocabulary is cut together with it. Save the tokenizer as a "
                "fast one: AutoTokenizer.from_pretrained(...).save_pretrained(...)."
            )
        try:
            data = bounded.read_json(file)
            found = cls(data, _model_of(data))
            _ = found.essential, found.pieces  # Whatever is damaged comes to light here.
            return found
        except UnsupportedModelError:
            raise
        except (AttributeError, OSError, LookupError, TypeError, ValueError) as error:
            raise BadCheckpointError(f"Can't read {file}: {bounded.why(error)}.") from error

    @cached_property
    def added(self) -> dict[int, str]:
        """Special and other added tokens, by id."""
        return {int(token["id"]): str(token["content"]) for token in self.data.get("added_tokens") or ()}

    @cached_property
    def tokens(self) -> dict[int, str]:
        """All tokens by id."""
        return {number: token for token, number in self.model.numbers.items()} | self.added

    @cached_property
    def essential(self) -> frozenset[int]:
        """Ids that never go: special and added tokens, letters and bytes that spell whatever else goes."""
        return frozenset({*self.added, *self.model.essential(), *_named_ids(self.data)})

    @cached_property
    def pieces(self) -> dict[int, tuple[int, ...]]:
        """By id, the ids that are read where a token isn't there; a letter may fall back to its bytes."""
        numbers = self.model.numbers
        letters = [token for token, number in numbers.items() if len(token) == 1]
        spelled = {numbers[letter]: [f"<0x{byte:02X}>" for byte in letter.encode()] for letter in letters}
        falls_back = {
            number: tuple(numbers[byte] for byte in bytes_)
            for number, bytes_ in spelled.items()
            if self.model.data.get("byte_fallback") and all(byte in numbers for byte in bytes_)
        }
        return falls_back | self.model.pieces()

    def without(self, new: Mapping[int, int]) -> dict[str, Any]:
        """Return the file with the tokens that stay; `new` has their numbers by the old ones."""
        added = [{**token, "id": new[token["id"]]} for token in self.data.get("added_tokens") or ()]
        padding = self.data.get("padding")
        return {
            **self.data,
            "added_tokens": added,
            "padding": {**padding, "pad_id": new[padding["pad_id"]]} if padding else padding,
            "post_processor": _renumbered(self.data.get("post_processor"), new),
            "model": self.model.without(new),
        }


def _model_of(data: Mapping[str, Any]) -> TokenModel:
    model = data["model"]
    named = model.get("type") or next((name for key, name in KEYS.items() if key in model), None)
    if named not in MODELS:
        raise UnsupportedModelError(
            f"The tokenizer's model is {named!r:.40}; tokens can be taken out of {', '.join(MODELS)} ones."
        )
    for part in _processors(data.get("post_processor")):
        if part["type"] not in (*WITHOUT_IDS, "TemplateProcessing", "BertProcessing", "RobertaProcessing"):
            raise UnsupportedModelError(
                f"The tokenizer's post-processor is {part['type']!r:.40}, whose tokens can't be renumbered."
            )
    found = MODELS[named](model)
    ids = found.numbers.values()
    if len({*ids}) != len(ids) or not all(type(number) is int and number >= 0 for number in ids):
        raise ValueError("two tokens have one number")
    return found


def _processors(processor: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """Return the parts that a post-processor consists of."""
    if not processor:
        return []
    if processor["type"] == "Sequence":
        return [part for inner in processor["processors"] for part in _processors(inner)]
    return [processor]


def _named_ids(data: Mapping[str, Any]) -> set[int]:
    """Return the ids that padding and post-processor name."""
    found = {data["padding"]["pad_id"]} if data.get("padding") else set()
    for part in _processors(data.get("post_processor")):
        found |= {number for token in part.get("special_tokens", {}).values() for number in token["ids"]}
        found |= {part[name][1] for name in ("sep", "cls") if name in part}
    return found


def _renumbered(processor: Mapping[str, Any] | None, new: Mapping[int, int]) -> dict[str, Any] | None:
    """Return a post-processor with the new numbers of the tokens that it names."""
    if not processor:
        return None
    if processor["type"] == "Sequence":
        return {**processor, "processors": [_renumbered(part, new) for part in processor["processors"]]}
    named: dict[str, Any] = {
        name: [processor[name][0], new[processor[name][1]]] for name in ("sep", "cls") if name in processor
    }
    if "special_tokens" in processor:
        tokens = processor["special_tokens"].items()
        named["special_tokens"] = {
            name: {**token, "ids": [new[number] for number in token["ids"]]} for name, token in tokens
        }
    return {**processor, **named}
