"""Languages of thoughts: by script, by detection, as a reward."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r1lab.basics.errors import R1LabError
from r1lab.languages import LANGUAGES, language_share, language_words
from r1lab.rewards import detected_language_reward, language_reward
from r1lab.tasks import Problem, get_task
from r1lab.tasks.countdown import Countdown

ENGLISH = "First we add the two numbers, and then we look whether the sum is right."
FRENCH = "Nous ajoutons d'abord les deux nombres, puis nous regardons si la somme est juste."
GERMAN = "Zuerst addieren wir die beiden Zahlen, dann prüfen wir, ob die Summe richtig ist."
CHINESE = "首先我们把两个数加起来，然后检查结果是否正确。"
JAPANESE = "まず二つの数を足して、それから答えが正しいかどうかを確かめます。"
RUSSIAN = "Сначала мы складываем два числа, потом проверяем ответ."
TEXTS = {"en": ENGLISH, "fr": FRENCH, "de": GERMAN, "zh": CHINESE, "ja": JAPANESE, "ru": RUSSIAN}


@pytest.mark.parametrize("language", TEXTS)
def test_a_text_in_one_language_is_in_that_language_alone(language):
    shares = {one: language_share(TEXTS[language], one, detect=True) for one in TEXTS}
    assert shares[language] == 1.0
    others = [share for one, share in shares.items() if one != language]
    assert max(others) == 0.0 or (language, max(others)) == ("zh", 0.0) or language in ("ja", "zh")
    if language == "zh":  # all its characters are Japanese ones too, its sentences are not
        assert shares["ja"] == 0.0 or shares["ja"] < 1.0


def test_sentences_are_told_apart_and_numbers_are_not_counted():
    mixed = f"{ENGLISH} {FRENCH} 7 * 8 = 56."
    english, french = (language_share(mixed, one, detect=True) for one in ("en", "fr"))
    assert 0.3 < english < 0.7 and english + french == pytest.approx(1)
    half = f"{ENGLISH}\n{CHINESE}"
    by_script = language_share(half, "en")
    assert 0.3 < by_script < 0.8 and language_share(half, "en", detect=True) == by_script
    assert language_share("7 * 8 = 56, x + y", "en") is None
    assert language_share("7 * 8 = 56, x + y", "en", detect=True) is None
    assert language_words(r"<think> wait \frac{1}{2} <|im_end|> 等等 </think>") == {
        "en": 1,
        "zh": 1,
    }


def test_too_few_words_to_judge_by_count_as_their_script_allows():
    assert language_share("bonjour monde", "en", detect=True) == 1.0
    assert language_share("等等 no", "zh", detect=True) == 0.5


@pytest.mark.parametrize("detect", [False, True])
def test_an_unknown_language_is_refused_with_those_that_are_known(detect):
    with pytest.raises(R1LabError, match="use one of en"):
        language_share("vita brevis", "la", detect)
    assert detect or language_share(ENGLISH, "zh") == 0.0
    if not detect:
        with pytest.raises(R1LabError, match="is not known"):
            language_share(FRENCH, "fr")
    assert len(set(LANGUAGES)) == len(LANGUAGES)


def test_the_reward_is_the_share_in_the_thought():
    task = Countdown()
    en, zh = (task.problem([7, 6, 10], 23, language) for language in ("en", "zh"))
    text = "<think> 7 + 6 → 13 no wait 10 + 7 → 17 不对 等等 no </think> <answer> 等等 </answer>"
    assert language_reward([text, text], problem=[en, zh.to_json()]) == [0.6, 0.4]
    silent = ["<think> 7 + 6 → 13 </think> <answer> 1 </answer>", "wait", "<think> wait", ""]
    assert language_reward(silent, problem=[en] * 4) == [0.0] * 4
    chat = [[{"role": "assistant", "content": f"<think>{FRENCH}</think>"}]]
    french = Problem("word_problems", "x", "?", "fr", "train", {})
    assert detected_language_reward(chat, problem=[french]) == [1.0]
    assert detected_language_reward(chat, problem=[en]) == [0.0]
    assert language_reward(chat, problem=[french]) == [0.0]  # and says so once, in the log


@settings(deadline=None, max_examples=150)
@given(st.text(max_size=300))
def test_any_text_has_a_share_or_no_words(text):
    for detect in (False, True):
        share = language_share(text, "en", detect)
        assert share is None or 0 <= share <= 1
    problem = get_task("countdown").problem([7, 6, 10], 23)
    for reward in (language_reward, detected_language_reward):
        assert 0 <= reward([f"<think>{text}</think>"], problem=[problem])[0] <= 1


@pytest.mark.parametrize(
    "text", ["wait " * 10**6, "等" * 10**6, "a." * 10**6, "\\" * 10**6, "<" * 10**6]
)
def test_megabytes_take_less_than_50_ms_of_the_processor(text):
    problem = get_task("countdown").problem([7, 6, 10], 23)
    detected_language_reward([f"<think>{ENGLISH}</think>"], problem=[problem])  # loads the model
    for reward in (language_reward, detected_language_reward):
        times = []
        for _ in range(3):
            began = time.process_time()
            reward([f"<think>{text}</think>"], problem=[problem])
            times.append(time.process_time() - began)
        assert min(times) < 0.05
