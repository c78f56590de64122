"""Languages, their scripts, and tokens of other scripts."""

from __future__ import annotations

import pytest

from prunepolicy.pruning.errors import UsageError
from prunepolicy.pruning.vocabulary.languages import in_other_scripts, scripts_of


def test_languages_of_one_script_are_the_same_choice() -> None:
    assert scripts_of("en, DE") == scripts_of("fr") == {"LATIN"}
    assert scripts_of("ja,ru") == {"CJK", "HIRAGANA", "KATAKANA", "CYRILLIC"}


@pytest.mark.parametrize("named", ["klingon", "en,", "en;de"])
def test_an_unknown_language_is_told_the_known_ones(named: str) -> None:
    with pytest.raises(UsageError, match=r"Unknown language .* Known, .* el, en, es, "):
        scripts_of(named)


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("Straße", "en"),
        ("\uff26ull", "en"),
        ("nº", "es"),
        ("мир", "ru"),
        ("カー", "ja"),
        ("한국", "ko"),
        ("नमस्ते", "hi"),
    ],
)
def test_letters_are_of_the_scripts_of_their_language(text: str, script: str) -> None:
    assert in_other_scripts([text], scripts_of(script)) == [False]
    assert in_other_scripts([text], scripts_of("el")) == [True]


def test_what_has_no_letter_is_in_every_script() -> None:
    texts = ["", " 12,5 %", "…»", "\ufffd", "\x00", "😀", "\u0301"]
    assert not any(in_other_scripts(texts, scripts_of("th")))
    assert in_other_scripts(["a мир"], scripts_of("ru")) == [True]
