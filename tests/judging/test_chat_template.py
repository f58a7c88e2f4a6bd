"""Chat templates of many families: the ids are the template's own, or the tokenizer is refused in one line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import trl

from pipelines.core.errors import UserError
from pipelines.judging.chat import encode_completion, encode_prompt, encode_text, end_of_turn
from pipelines.judging.chat_template import control_tokens
from pipelines.judging.count_tokens import TokenCounter, find_facts
from tests.judging.test_chat import IM

# TRL ships the chat templates of the families that it trains.
FAMILIES = {path.stem: path.read_text() for path in Path(trl.__file__).parent.glob("chat_templates/*.jinja")}
GEMMA = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{{ m.content | trim }}<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
PHI = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}"
)
INST = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content | trim }} [/INST]"
    "{% else %} {{ m.content | trim }} {{ eos_token }}{% endif %}{% endfor %}"
)
PARTS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}: {% for part in m.content %}{{ part.text }}{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant: {% endif %}"
)
WRITTEN = {"im": IM, "gemma": GEMMA, "phi": PHI, "inst": INST, "parts": PARTS}
# Prompts end within thoughts that answers in conversations do not have: such models can judge, but not be trained.
THINKERS = {name for name in FAMILIES if re.match(r"deepseek|nemotron_3", name)}
# Prompts end within thoughts and answers begin by closing them, with a line break that the two would share.
CLOSING = {name for name in FAMILIES if re.match(r"qwen3_(5_think|6|8)", name)}
CONTROLS = re.compile(r"<[|｜][^<>]*?[|｜]?>|<(?:start|end)_of_\w+>|<\w+\|>|\[/?[A-Z_]{3,}\]|</?(?:think|s)>")
# How Llama 3 and Qwen cut a text before they join its bytes.
WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QUESTION = "Which of the two is better?\n\n  A:  1 < 2 & b"
ANSWER = "**Reasoning:** so.\n\n**Result:** A"


def tokenizer_of(
    template: str, controls: list[str] | None = None, *, named: bool = False, metaspace: bool = False
) -> Any:
    """A byte-pair tokenizer with merges whose special tokens are those of a chat template; only a few have a name."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    model = Tokenizer(models.BPE(byte_fallback=False))
    if metaspace:
        model.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        model.decoder = decoders.Metaspace(prepend_scheme="first")
        alphabet = [chr(code) for code in range(9, 256)]
    else:
        cut = pre_tokenizers.Split(Regex(WORDS), "isolated")
        model.pre_tokenizer = pre_tokenizers.Sequence(
            [cut, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        )
        model.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, show_progress=False)
    model.train_from_iterator([QUESTION, ANSWER, "assistant user model Result: A\n\n Reasoning"] * 3, trainer)
    found = CONTROLS.findall(template) if controls is None else controls
    model.add_special_tokens([AddedToken(token, special=True) for token in dict.fromkeys(found)])
    extra = {"additional_special_tokens": found} if named else {}
    fast = PreTrainedTokenizerFast(tokenizer_object=model, eos_token="<eos>", bos_token="<bos>", **extra)
    fast.chat_template = template
    return fast


def own_ids(tokenizer: Any, *texts: str) -> list[int]:
    """What the chat template itself makes of the messages, as strings or, where it wants them, as content parts."""
    for wrap in (lambda text: text, lambda text: [{"type": "text", "text": text}]):
        roles = zip(("user", "assistant"), texts, strict=False)
        turns = [{"role": role, "content": wrap(text)} for role, text in roles]
        asked: dict[str, Any] = {"add_generation_prompt": len(texts) == 1}
        try:
            shown = tokenizer.apply_chat_template(turns, tokenize=False, **asked)
        except Exception:
            continue
        if texts[0] in shown:
            return list(tokenizer.apply_chat_template(turns, tokenize=True, return_dict=False, **asked))
    raise AssertionError("the template shows no message")


@pytest.mark.parametrize("template", [*WRITTEN.values(), *FAMILIES.values()], ids=[*WRITTEN, *FAMILIES])
def test_prompts_are_the_template_s_own_ids(template: str) -> None:
    tokenizer = tokenizer_of(template)
    assert encode_prompt(tokenizer, QUESTION) == own_ids(tokenizer, QUESTION)


@pytest.mark.parametrize("name", [*WRITTEN, *sorted(FAMILIES.keys() - THINKERS)])
def test_what_is_trained_is_the_template_s_own_conversation(name: str) -> None:
    tokenizer = tokenizer_of((WRITTEN | FAMILIES)[name])
    answer = encode_completion(tokenizer, ANSWER)
    trained = encode_prompt(tokenizer, QUESTION) + answer
    whole = own_ids(tokenizer, QUESTION, ANSWER)
    if name == "glm4moe":  # writes nothing after an answer
        whole.append(tokenizer.eos_token_id)
    if name in CLOSING:
        assert tokenizer.decode(whole).startswith(tokenizer.decode(trained))
    else:
        assert trained == whole[: len(trained)]
    assert answer[-1] == end_of_turn(tokenizer) and answer[-1] in control_tokens(tokenizer)


@pytest.mark.parametrize("name", sorted(THINKERS))
def test_a_template_whose_prompts_open_thoughts_can_judge_but_not_be_trained(name: str) -> None:
    tokenizer = tokenizer_of(FAMILIES[name])
    encode_prompt(tokenizer, QUESTION)
    with pytest.raises(UserError, match=r"prompts end with .*<think>.*; answers of a conversation do not follow"):
        encode_completion(tokenizer, ANSWER)


@pytest.mark.parametrize(("style", "end"), [("gemma", "<end_of_turn>"), ("phi", "<|end|>"), ("inst", "<eos>")])
def test_a_turn_may_end_with_a_token_that_has_no_name(style: str, end: str) -> None:
    tokenizer = tokenizer_of(WRITTEN[style])
    assert end_of_turn(tokenizer) == tokenizer.convert_tokens_to_ids(end)


@pytest.mark.parametrize("style", ["inst", "im"])
def test_pieces_that_begin_with_a_space_are_the_template_s_own_too(style: str) -> None:
    tokenizer = tokenizer_of(WRITTEN[style], metaspace=True)
    assert encode_prompt(tokenizer, "Which one?") == own_ids(tokenizer, "Which one?")
    trained = encode_prompt(tokenizer, "Which one?") + encode_completion(tokenizer, "Result: A")
    assert trained == own_ids(tokenizer, "Which one?", "Result: A")[: len(trained)]


@pytest.mark.parametrize("change", ["upper", "lower", "replace('\\n', ' ')", "replace('  ', ' ')", "truncate(40)", "e"])
def test_a_template_that_changes_messages_is_refused(change: str) -> None:
    tokenizer = tokenizer_of(IM.replace("m['content']", f"m['content'] | {change}"))
    with pytest.raises(UserError, match=r"the chat template is not usable: it .* a message") as caught:
        encode_prompt(tokenizer, "x")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (None, "no chat template"),
        ("{{ messages[0].role }}", "does not show a message once"),
        ("{{ messages[0].content }}{{ messages[0].content }}", "does not show a message once"),
        ("{{ raise_exception('no') }}", "not usable: no"),
        ("{{ messages[0].content + 1 }}", "not usable: "),
        ("{{ messages[0].content.replace('  ', ' ') }}", "not usable: it changes a message"),  # not of lists
    ],
)
def test_a_template_that_is_not_usable_is_one_line(template: str | None, words: str) -> None:
    with pytest.raises(UserError, match=words):
        encode_prompt(tokenizer_of(template or "") if template else bare(), "x")


def bare() -> Any:
    tokenizer = tokenizer_of(IM)
    tokenizer.chat_template = None
    return tokenizer


def test_a_template_whose_end_of_turn_is_no_token_is_refused() -> None:
    with pytest.raises(UserError, match=r"answers end with '<\|im_end\|>\\n', which is no token"):
        encode_completion(tokenizer_of(IM, ["<|im_start|>"]), "x")


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("style", sorted(WRITTEN))
def test_control_tokens_in_a_text_are_characters_whether_they_have_a_name_or_not(style: str, named: bool) -> None:
    tokenizer = tokenizer_of(WRITTEN[style], named=named)
    controls = control_tokens(tokenizer)
    hostile = f"a {' '.join(controls.values())} b"
    for encode, plain in ((encode_prompt, "x"), (encode_completion, "x")):
        ids = encode(tokenizer, hostile)
        assert sum(token in controls for token in ids) == sum(token in controls for token in encode(tokenizer, plain))
        assert hostile in tokenizer.decode(ids)


def test_a_token_that_the_template_writes_is_one_of_control_though_it_is_not_called_special() -> None:
    from tokenizers import AddedToken

    tokenizer = tokenizer_of(IM + "{# <think> #}")
    tokenizer.add_tokens([AddedToken("<think>", special=False), AddedToken("<table>", special=False)])
    think, table = tokenizer.convert_tokens_to_ids(["<think>", "<table>"])
    for ids in (encode_prompt(tokenizer, "<think> <table>"), encode_text(tokenizer, "<think> <table>")):
        assert think not in ids and table in ids
        assert "<think> <table>" in tokenizer.decode(ids)


@pytest.mark.parametrize("style", sorted(WRITTEN))
def test_counts_are_those_of_the_ids_in_every_style(style: str) -> None:
    tokenizer = tokenizer_of(WRITTEN[style])
    counter = TokenCounter(find_facts(tokenizer), lambda: tokenizer)
    texts = [QUESTION, ANSWER, " A", "Result", "[/INST] <|end|>", "\n\nx\n"]
    assert counter.prompts(texts) == [len(encode_prompt(tokenizer, text)) for text in texts]
    assert counter.completions(texts) == [len(encode_completion(tokenizer, text)) for text in texts]
