"""Which scripts languages are written in, and which tokens hold letters of other scripts."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable
from functools import cache

from prunepolicy.pruning.errors import UsageError

LANGUAGES_OF = {
    ("LATIN",): "af az ca cs cy da de en es et eu fi fr ga gl hr hu id is it lt lv ms mt nb nl nn no pl pt "
    "ro sk sl sq sv sw tl tr uz vi",
    ("CYRILLIC",): "be bg kk ky mk mn ru sr tg uk",
    ("ARABIC",): "ar fa ps ur",
    ("DEVANAGARI",): "hi mr ne",
    ("HEBREW",): "he yi",
    ("BENGALI",): "as bn",
    ("ETHIOPIC",): "am ti",
    ("CJK",): "zh",
    ("CJK", "HIRAGANA", "KATAKANA"): "ja",
    ("HANGUL", "CJK"): "ko",
    ("ARMENIAN",): "hy",
    ("GEORGIAN",): "ka",
    ("GREEK",): "el",
    ("GUJARATI",): "gu",
    ("GURMUKHI",): "pa",
    ("KANNADA",): "kn",
    ("KHMER",): "km",
    ("LAO",): "lo",
    ("MALAYALAM",): "ml",
    ("MYANMAR",): "my",
    ("SINHALA",): "si",
    ("TAMIL",): "ta",
    ("TELUGU",): "te",
    ("THAI",): "th",
}
"""Languages (ISO 639-1) by their scripts, each called as the names of its letters in Unicode begin."""
SCRIPTS_OF = {language: scripts for scripts, named in LANGUAGES_OF.items() for language in named.split()}
ANY_SCRIPT = ("COMBINING", "MODIFIER", "VARIATION")
"""How the names of marks begin that letters of every script bear."""


def scripts_of(languages: str) -> frozenset[str]:
    """Return the scripts of some languages, as in `en,de`.

    Raises:
        UsageError: for a language that isn't known.
    """
    named = [language.strip().lower() for language in languages.split(",")]
    for language in named:
        if language not in SCRIPTS_OF:
            raise UsageError(
                f"Unknown language {language!r:.40}. Known, by their ISO 639-1 codes: "
                f"{', '.join(sorted(SCRIPTS_OF))}."
            )
    return frozenset(script for language in named for script in SCRIPTS_OF[language])


def in_other_scripts(texts: Iterable[str], scripts: Collection[str]) -> list[bool]:
    """Return for each text whether it has a letter of any script but `scripts`.

    Digits, punctuation, spaces, and bytes that are no whole letter belong to no script.
    """
    return [not _scripts_in(text).issubset(scripts) for text in texts]


def _scripts_in(text: str) -> set[str]:
    """Return the scripts of a text's letters; full-width and other forms count as the plain letters."""
    letters = (char for char in unicodedata.normalize("NFKC", text) if unicodedata.category(char)[0] in "LM")
    return {script for letter in letters if (script := _script_of(letter)) not in ANY_SCRIPT}


@cache
def _script_of(letter: str) -> str:
    """Return the script of a letter: how its name begins; Python's own data doesn't have the property."""
    return re.split("[ -]", unicodedata.name(letter, "UNNAMED"))[0]
