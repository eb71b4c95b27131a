"""A chat model with a thinking switch: the same prompt, ends and rewards in SFT, RL on both
backends and evaluation, and its chat template as it was."""

from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from r1lab import grpo, reward_model, sft
from r1lab.basics.errors import R1LabError
from r1lab.evals import sources
from r1lab.evaluate import evaluate
from r1lab.grpo import GRPOConfig
from r1lab.models.load import load, save
from r1lab.sampler.rollouts import Sampling
from r1lab.sft import Example, SFTConfig
from r1lab.tasks.base import OneNumber, Problem
from r1lab.templates import begun, encode, end_ids, end_of_text, prompt_of, rest, with_begun
from r1lab.trl_backend import run, supervised
from r1lab.trl_backend.mapping import Launch

pytestmark = pytest.mark.usefixtures("one_thread")

# As Qwen3's: an empty thought where thinking is off, and earlier turns lose their thoughts.
OMITS = """\
{%- for m in messages %}
    {%- set text = m.content %}
    {%- if m.role == 'assistant' and '</think>' in text %}
        {%- set text = text.split('</think>')[-1].lstrip('\\n') %}
    {%- endif %}
    {{- '<|im_start|>' + m.role + '\\n' + text + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and not enable_thinking %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
{#- not a byte of this changes: 不变 -#}
"""
# Others open the thought themselves.
OPENS = OMITS.replace(
    "{%- endif %}\n{%- endif %}", "{%- else %}{{- '<think>\\n' }}{%- endif %}\n{%- endif %}"
)
KINDS = {"omits": OMITS, "opens": OPENS}
PROMPTS = {
    ("omits", "thinking"): "", ("omits", "chat"): "",
    ("opens", "thinking"): "<think>\n", ("opens", "chat"): "<think>\n",
    ("omits", "no_thinking"): "<think>\n\n</think>\n\n",
    ("opens", "no_thinking"): "<think>\n\n</think>\n\n",
}  # fmt: skip


def chat_folder(folder, kind: str):
    """A random Qwen3 that reads bytes, whose end of text is not the end of its turn."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bpe = Tokenizer(models.BPE(vocab={one: i for i, one in enumerate(alphabet)}, merges=[]))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|endoftext|>")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.add_tokens(["<think>", "</think>"])
    tokenizer.chat_template, tokenizer.pad_token = KINDS[kind], "<|endoftext|>"
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 8}
    sizes |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512}
    ends = {"bos_token_id": None, "eos_token_id": 256, "pad_token_id": 256}
    torch.manual_seed(0)
    save(
        Qwen3ForCausalLM(Qwen3Config(vocab_size=len(tokenizer), **sizes, **ends)), tokenizer, folder
    )
    return folder


@pytest.fixture(scope="module", params=KINDS)
def chat(request, tmp_path_factory):
    return request.param, chat_folder(tmp_path_factory.mktemp(request.param), request.param)


PROBLEM = Problem("sum", "sum/1", "1 + 1?", "en", "train", {"answer": "2"})


class Sum(OneNumber):
    name = "sum"

    def problems(self, split, n, seed=0):
        return [PROBLEM] * n


@pytest.mark.parametrize("template", ["chat", "thinking", "no_thinking"])
def test_the_prompt_is_what_the_chat_template_makes(chat, template):
    kind, folder = chat
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompt = prompt_of(tokenizer, PROBLEM, template)
    text = prompt.split("user\n")[1].split("<|im_end|>")[0]
    assert text.startswith("1 + 1?")
    switch = {} if template == "chat" else {"enable_thinking": template == "thinking"}
    how, message = {"add_generation_prompt": True} | switch, [{"role": "user", "content": text}]
    assert prompt == tokenizer.apply_chat_template(message, tokenize=False, **how)
    ids = tokenizer.apply_chat_template(message, return_dict=True, **how)["input_ids"]
    assert encode(tokenizer, [prompt]) == [ids]
    assert begun(prompt) == PROMPTS[kind, template]


def test_a_switch_that_is_not_there_is_refused(chat):
    tokenizer = AutoTokenizer.from_pretrained(chat[1])
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    assert prompt_of(tokenizer, PROBLEM, "chat")
    for jinja in (tokenizer.chat_template, None):
        tokenizer.chat_template = jinja
        with pytest.raises(R1LabError, match="has no switch enable_thinking; template chat"):
            prompt_of(tokenizer, PROBLEM, "no_thinking")


def test_a_turn_ends_where_the_chat_template_ends_it(chat):
    model, tokenizer = load(chat[1])
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert tokenizer.eos_token_id not in (None, end)
    assert end_ids(model, tokenizer, "thinking") == [tokenizer.eos_token_id, end]
    assert end_of_text(tokenizer, "chat") == end
    assert end_of_text(tokenizer, "tiny") == tokenizer.eos_token_id
    assert end_ids(model, tokenizer, "r1_zero") == [tokenizer.eos_token_id]


BEGUN = ["assistant\n", "assistant\n<think>\n", "assistant\n<think>\n\n</think>\n\n"]


@pytest.mark.parametrize("prompt", [*BEGUN, "<think> </think> tags. User: 1 + 1? Assistant:"])
@pytest.mark.parametrize("text", ["", "\n7", " 7 </think> <answer>8</answer>", "</think>"])
def test_what_a_prompt_has_begun_is_read_and_not_learned_again(prompt, text):
    (whole,) = with_begun([prompt], [text])
    assert rest(prompt, whole) == text and whole == begun(prompt) + text


def test_a_written_completion_fits_the_prompt():
    omits, opens, closes = BEGUN
    written = "<think>7</think> <answer>8</answer>"
    assert rest(omits, written) == written
    assert rest(opens, written) == "7</think> <answer>8</answer>"
    assert rest(opens, "7</think> 8") == "7</think> 8"
    assert rest(closes, "<think> </think> <answer>8</answer>") == "<answer>8</answer>"
    assert rest(closes, "<answer>8</answer>") == "<answer>8</answer>"
    for thought in (written, "<think>7"):
        with pytest.raises(R1LabError, match="no_thinking learns no thoughts"):
            rest(closes, thought)


def test_an_endpoint_is_told_of_the_switch():
    sample = sources.Sample(0, 0, PROBLEM)
    bodies = [
        sources.Remote(None, Sampling(8), template).body(sample)
        for template in ("chat", "thinking", "no_thinking")
    ]
    assert "chat_template_kwargs" not in bodies[0]
    switches = [body["chat_template_kwargs"] for body in bodies[1:]]
    assert switches == [{"enable_thinking": True}, {"enable_thinking": False}]


SAYS = {"thinking": "<think>\n1+1</think><answer>2</answer>", "no_thinking": "<answer>2</answer>"}
TAUGHT = [
    ("omits", "thinking", supervised.sft_train),
    ("opens", "thinking", sft.train),
    ("omits", "no_thinking", sft.train),
]


@pytest.fixture(scope="module", params=TAUGHT, ids=["omits", "opens", "no_thinking"])
def taught(request, tmp_path_factory):
    """(kind, template, folder): SFT has taught one answer. TRL's has the same rows as ours."""
    kind, template, teach = request.param
    out = tmp_path_factory.mktemp("taught")
    model, tokenizer = load(chat_folder(out / "base", kind))
    config = SFTConfig(epochs=40, batch_size=1, learning_rate=2e-2, template=template)
    example = Example(PROBLEM, SAYS[template])
    losses = teach(model, tokenizer, [example], config, out / "sft", progress=False)
    assert losses[-1]["loss"] < 0.1
    return kind, template, out


@pytest.mark.parametrize("backend", ["scratch", "trl"])
def test_it_is_trained_and_evaluated(taught, tmp_path, backend):
    """RL and evaluation find what was taught right, well-formed and ended."""
    kind, template, folder = taught
    config = GRPOConfig(steps=1, questions=1, group_size=2, max_new_tokens=64, template=template,
                        temperature=0.05)  # fmt: skip
    model, tokenizer = load(folder / "sft" / "model")
    prompt = prompt_of(tokenizer, PROBLEM, template)
    drawn = rest(prompt, SAYS[template])
    if backend == "trl":
        given = (config, tmp_path, Launch(sampler="r1lab", device="cpu"))
        (m,) = run.train(model, tokenizer, Sum(), *given, progress=False)
    else:
        (m,) = grpo.train(model, tokenizer, Sum(), config, tmp_path, progress=False)
    assert (m["accuracy"], m["format"], m["truncated"]) == (1, 1, 0)
    assert m["rewards/accuracy"] == m["rewards/format"] == 1
    assert m["length"] == len(tokenizer(drawn)["input_ids"]) + 1  # and <|im_end|>

    model, tokenizer = load(tmp_path / "model")
    how = {"k": 1, "sampling": Sampling(64, greedy=True), "template": template}
    ((one,),) = evaluate(model, tokenizer, Sum(), [PROBLEM], **how, progress=False).completions
    assert one.correct and one.well_formed and one.finished
    assert one.text == begun(prompt) + drawn
    row = {"completion": one.text, "thought": "", "completion_tokens": one.length, "finish": "stop"}
    sources.measured(Sum(), template, [PROBLEM], [row])
    assert row["correct"] and row["well_formed"]
    again = [Example(PROBLEM, one.text)]  # as rejection sampling hands it on
    assert sft.loss_of(model, tokenizer, again, SFTConfig(template=template)) < 0.1
    (read,) = reward_model.text_ids(tokenizer, [PROBLEM], [one.text], template, "safe")
    assert tokenizer.decode(read[:-1]) == prompt + drawn

    (jinja,) = {f.read_bytes() for f in folder.glob("*/**/chat_template.jinja")}
    assert jinja.decode() == KINDS[kind]
    assert (tmp_path / "model" / "chat_template.jinja").read_bytes() == jinja
    was = AutoTokenizer.from_pretrained(folder / "base")
    assert (was.eos_token, was.pad_token) == (tokenizer.eos_token, tokenizer.pad_token)
    assert was.get_vocab() == tokenizer.get_vocab()
