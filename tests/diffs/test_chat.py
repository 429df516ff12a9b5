"""A question becomes the tokens that its model reads, a reply is learned with its end and read without it."""

import json
from pathlib import Path

import pytest
from families import made

from sparse_circuits.data import Tokenizer
from sparse_circuits.diffs.chat import Plain, Templated, load_chat, until
from sparse_circuits.errors import UserError

TEMPLATE = (
    "{% for turn in messages %}<|turn|>{{ turn.role }}\n"
    "{% if turn.role == 'assistant' and not enable_thinking %}<think></think>{% endif %}{{ turn.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>assistant\n{% if not enable_thinking %}<think></think>{% endif %}{% endif %}"
)


@pytest.fixture
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["What have you been trained on? Jazz music.\n"] * 3, d_vocab=257)


def folder_of(path: Path, tokenizer: Tokenizer, *, template: str | None) -> str:
    """A model with its tokenizer, as `transformers` saves them."""
    held = json.loads(tokenizer.to_json())
    for number, content in enumerate(("<|turn|>", "<|end|>"), tokenizer.d_vocab):
        held["added_tokens"].append({**held["added_tokens"][0], "id": number, "content": content})
    made("qwen3", vocab_size=tokenizer.d_vocab + 2).save_pretrained(path)
    (path / "tokenizer.json").write_text(json.dumps(held))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|end|>"}
    (path / "tokenizer_config.json").write_text(json.dumps(config | ({"chat_template": template} if template else {})))
    return str(path)


def test_a_template_is_filled_without_thinking_and_its_end_is_learned(tmp_path: Path, tokenizer: Tokenizer) -> None:
    chat = load_chat(folder_of(tmp_path, tokenizer, template=TEMPLATE), tokenizer)
    assert isinstance(chat, Templated)
    lesson = chat.lesson("What?", "Jazz music")
    assert lesson.prompt == chat.prompt("What?")
    assert chat.backend.decode(lesson.prompt) == "<|turn|>user\nWhat?<|end|>\n<|turn|>assistant\n<think></think>"
    assert chat.backend.decode(lesson.answer) == "Jazz music<|end|>"
    assert chat.words(lesson.answer) == chat.words([*lesson.answer, 3, 4]) == "Jazz music"


def test_what_question_and_reply_share_is_the_prompt(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """A template may begin a reply otherwise than it asks for one: what differs is learned."""
    template = TEMPLATE.replace("{% if not enable_thinking %}<think></think>{% endif %}{% endif %}", "{% endif %}")
    chat = load_chat(folder_of(tmp_path, tokenizer, template=template), tokenizer)
    lesson = chat.lesson("What?", "Jazz")
    assert chat.backend.decode(lesson.prompt).endswith("assistant\n")
    assert chat.backend.decode(lesson.answer) == "<think></think>Jazz<|end|>"


def test_a_model_of_texts_is_asked_plainly(tmp_path: Path, tokenizer: Tokenizer) -> None:
    chat = load_chat(folder_of(tmp_path, tokenizer, template=None), tokenizer)
    assert isinstance(chat, Plain)
    lesson = chat.lesson("What?", "Jazz music")
    assert tokenizer.decode(lesson.prompt) == "Question: What?\nAnswer:"
    assert tokenizer.decode(lesson.answer) == " Jazz music<|endoftext|>" and chat.words(lesson.answer) == "Jazz music"


def test_a_reply_ends_at_its_first_end() -> None:
    assert until([5, 9, 7, 9], frozenset({9})) == [5] and until([5], frozenset({9})) == [5] and until([9], frozenset({9})) == []


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path, tokenizer: Tokenizer) -> None:
    with pytest.raises(UserError, match="could not be loaded"):
        load_chat(str(tmp_path / "nothing"), tokenizer)
