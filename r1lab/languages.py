"""The language of a thought, for R1's language consistency reward (arXiv 2501.12948v2, section
3.2.1, equation 7):

    Reward_language = Num(Words_target) / Num(Words)

A word's language is found

- by **script**: Chinese characters are Chinese, Latin letters English. Exact for the tiny world;
- by **detection**: languages of one script, such as English and French, are distinguished sentence
  by sentence by py3langid (github.com/adbar/py3langid); by script with fewer than ENOUGH words.

Tags, special tokens, LaTeX commands, numbers and symbols are no words.
"""

import copy
import re
import unicodedata
from functools import lru_cache

from r1lab.basics.errors import R1LabError

LATIN_LETTERS = "A-Za-zÀ-ÖØ-öø-ɏ"
_CJK = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_MARKUP = re.compile(r"</?(?:think|answer)>|<\|[a-z_]{1,20}\|>|\\[A-Za-z]+")
_WORDS = {"en": re.compile(f"[{LATIN_LETTERS}]{{2,}}"), "zh": re.compile(f"[{_CJK}]+")}
_RUN = re.compile(r"[^\W\d_]+")
_SENTENCE = re.compile(r"[^.!?。！？\n]+")

SCRIPTS = {"zh": ("CJK",), "ja": ("CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA")}
SCRIPTS |= {"ko": ("HANGUL",), "ru": ("CYRILLIC",), "uk": ("CYRILLIC",), "el": ("GREEK",)}
SCRIPTS |= {"ar": ("ARABIC",), "fa": ("ARABIC",), "he": ("HEBREW",), "hi": ("DEVANAGARI",)}
SCRIPTS |= {"th": ("THAI",)}
"""The scripts of a language, by the first word of a letter's Unicode name; others are Latin."""

LATIN = ("en", "fr", "de", "es", "it", "pt", "nl", "pl", "cs", "sv", "tr", "vi", "id")
LANGUAGES = (*LATIN, *SCRIPTS)
ENOUGH = 4  # words of a sentence for detection
LONGEST = 50_000  # the first characters, which are read


def language_words(text: str) -> dict[str, int]:
    """Words by script, {"en": ..., "zh": ...}: runs of two or more Latin letters; half the Chinese
    characters of a run, rounded up, as most words have two."""
    text = _MARKUP.sub(" ", text)
    return {
        "en": len(_WORDS["en"].findall(text)),
        "zh": sum(-(-len(run) // 2) for run in _WORDS["zh"].findall(text)),
    }


def language_share(text: str, language: str, detect: bool = False) -> float | None:
    """Fraction of a text's words that are in `language`; None without words. detect: False, "en"
    and "zh" by script; True, any of LANGUAGES by detection. Raises R1LabError for others."""
    known = LANGUAGES if detect else tuple(_WORDS)
    if language not in known:
        raise R1LabError(f"language {language!r} is not known: use one of {', '.join(known)}.")
    if detect:
        words, right = _detected(text[:LONGEST], language)
    else:
        found = language_words(text)
        words, right = sum(found.values()), found[language]
    return right / words if words else None


def _detected(text: str, language: str) -> tuple[int, int]:
    """Number of words of a text, and of those in the language."""
    scripts = SCRIPTS.get(language, ("LATIN",))
    alike = tuple(one for one in LANGUAGES if set(SCRIPTS.get(one, ("LATIN",))) & set(scripts))
    words = right = 0
    for sentence in _SENTENCE.findall(_MARKUP.sub(" ", text)):
        inside = 0
        for run in _RUN.findall(sentence):
            script = _script(run[0])
            if script == "LATIN" and len(run) < 2:
                continue
            n = -(-len(run) // 2) if script in ("CJK", "HIRAGANA", "KATAKANA") else 1
            words += n
            inside += n * (script in scripts)
        if inside >= ENOUGH and len(alike) > 1:
            inside *= _identifier(alike).classify(sentence)[0] == language
        right += inside
    return words, right


@lru_cache(maxsize=4096)
def _script(letter: str) -> str:
    return unicodedata.name(letter, "UNKNOWN").split()[0]


@lru_cache(maxsize=8)
def _identifier(languages: tuple[str, ...]):
    """py3langid's identifier for a choice of languages."""
    identifier = copy.copy(_loaded())
    identifier.set_languages(list(languages))
    return identifier


@lru_cache(maxsize=1)
def _loaded():
    """It knows all languages, and takes a second to load."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE)
