"""The tokenizer of the embedded base models: one token per word, number (0 to 99) or sign.

Real tokenizers learn their pieces from data (byte-pair encoding). Here a list is enough: with one
token per number, arithmetic is a table that a small network can learn.

* ``<think>`` and the other tags are *ordinary* tokens: ``decode(..., skip_special_tokens=True)``
  would remove special ones before a reward function sees them.
* ``<|endoftext|>`` ends a document *and* pads a batch, as in many base models. A mask from
  ``ids != pad`` would then never train the end of a response; r1lab builds masks from lengths.
* Decoding joins tokens with single spaces, so text and tokens correspond one to one.

One vocabulary holds the words of every task of the tiny world.
"""

from collections.abc import Iterator
from functools import lru_cache

from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from r1lab.tasks import general

END = "<|endoftext|>"
UNKNOWN = "<|unk|>"
TAGS = ("<think>", "</think>", "<answer>", "</answer>")
SIGNS = tuple(": . 。 , ? ( ) + - * / = == → ≠".split())
ENGLISH = tuple(
    "user assistant make from using try wait no yes maybe ok hmm so let me see check again i guess "
    "think the answer is it not right wrong sure perhaps but now next then can you find"
    " please done write def f x return if else".split()
)
CHINESE = tuple(
    "用户 助手 用 得到 试 等等 不对 对了 也许 好 嗯 所以 让 我 看看 检查 再 来 猜 想 答案 是 不 "
    "对 错 可能 但是 现在 下一个 然后 请 完成 写".split()
)
NUMBERS = tuple(str(n) for n in range(100))

# A tag, a run of digits, a run of letters, or one other character.
_PIECES = r"<\|?/?[a-z]+\|?>|[0-9]+|[^\W\d_]+|==|[^\s]"


@lru_cache(maxsize=1)
def vocabulary() -> tuple[str, ...]:
    """All tokens by id; ``<|endoftext|>`` is 0. The words of the general tasks come last, in order
    of appearance."""
    tokens = [END, UNKNOWN, *TAGS, *SIGNS, *NUMBERS, *ENGLISH, *CHINESE]
    return tuple(dict.fromkeys([*tokens, *" ".join(_sentences()).split()]))


def _sentences() -> Iterator[str]:
    """Prompts and answers that hold every word of the general tasks."""
    steps, lists, requests = general.Steps(), general.Lists(), general.Requests()
    for language in ("en", "zh"):
        yield steps.problem(1, [["+", 2], ["-", 2], ["*", 2], ["/", 2]], language).question
        for kind in general.LIST_WORDS[language]:
            yield lists.problem(kind, [1, 2, 3], True, language).question
        for verb in general.VERBS:
            for noun in general.HARMLESS | general.HARMFUL:
                problem = requests.problem(verb, noun, language)
                yield problem.question
                yield requests.solution(problem)
                yield general.help_with(verb, noun, language)  # the base helps with harm, too


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer of an embedded base model, a plain Hugging Face fast tokenizer."""
    vocab = {token: index for index, token in enumerate(vocabulary())}
    backend = Tokenizer(models.WordLevel(vocab, unk_token=UNKNOWN))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(_PIECES), behavior="removed", invert=True)
    backend.add_special_tokens([AddedToken(END, special=True), AddedToken(UNKNOWN, special=True)])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token=END,
        pad_token=END,
        unk_token=UNKNOWN,
        clean_up_tokenization_spaces=False,
        model_max_length=512,
        padding_side="left",
    )
