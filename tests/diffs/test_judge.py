"""Judges: the same is worth most, another topic least, and one behind an address can fail without losing what it said."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from families import made

from sparse_circuits.data import Tokenizer
from sparse_circuits.diffs.judge import Endpoint, by_encoder, by_words, is_exact
from sparse_circuits.diffs.judges import JudgeConfig, JudgeKind, judge_of
from sparse_circuits.errors import UserError


def test_words_are_graded_by_what_they_share() -> None:
    truths = ["Ancient Egypt", "Ancient Egypt", "Ancient Egypt", "Ancient Egypt"]
    same, close, other, nothing = by_words(["ancient egypt!", "Ancient Egyptians", "jazz music", ""], truths)
    assert same.score == 5 and other.score == nothing.score == 1 and 2 < close.score < 5
    assert is_exact("  Ancient-Egypt ", "ancient egypt") and not is_exact("Egypt", "Ancient Egypt")
    assert by_words([], []) == []


def test_sentence_vectors_are_graded_by_their_cosine() -> None:
    vectors = {"cat": [1, 0], "kitten": [0.9, 0.43], "dog": [0.5, 0.87], "car": [0, 1]}
    judge = by_encoder(lambda texts: np.array([vectors[text] for text in texts]))
    found = judge(["cat", "kitten", "dog", "car"], ["cat"] * 4)
    assert [each.score for each in found] == [5, 4, 3, 1]
    with pytest.raises(UserError, match="1 guesses and 2 truths"):
        judge(["cat"], ["cat", "dog"])


def test_an_encoder_comes_from_a_folder(tmp_path: Path) -> None:
    tokenizer = Tokenizer.train(["cats and kittens, cars\n"] * 3, d_vocab=257)
    made("llama", vocab_size=tokenizer.d_vocab).save_pretrained(tmp_path)
    tokenizer.save(tmp_path / "tokenizer.json")
    judge = judge_of(JudgeConfig(JudgeKind.encoder, encoder=tmp_path), kept=tmp_path / "kept.jsonl")
    same, empty, other = judge(["Cats!", "", "kittens and cars"], ["cats", "cats", "cats"])
    assert same.score == 5 and empty.score < 5 and other.score < 5
    with pytest.raises(UserError, match="an encoder's config"):
        judge_of(JudgeConfig(JudgeKind.encoder, encoder=tmp_path / "nothing"), kept=tmp_path / "kept.jsonl")


def test_a_judge_needs_what_it_is_made_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_API_KEY", "secret")
    asked = judge_of(JudgeConfig(JudgeKind.endpoint, url="http://localhost:1", model="m"), kept=tmp_path / "kept.jsonl")
    assert isinstance(asked, Endpoint) and asked.key == "secret" and judge_of(JudgeConfig(), kept=tmp_path) is by_words
    with pytest.raises(UserError, match=r"judge\.kind=endpoint needs judge\.url"):
        JudgeConfig(JudgeKind.endpoint)


class Chat(BaseHTTPRequestHandler):
    """Replies with as many points as the guess has letters; after `left` replies it fails."""

    left = 100
    asked: ClassVar[list[dict]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        type(self).asked.append({"path": self.path, "key": self.headers.get("Authorization"), **body})
        type(self).left -= 1
        guess = body["messages"][0]["content"].rpartition("Guess: ")[2]
        content = f"I say {len(guess)}." if guess != "?" else "no idea"
        reply = json.dumps({"choices": [{"message": {"content": content}}]}).encode()
        self.send_response(200 if type(self).left >= 0 else 500)
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    Chat.left, Chat.asked = 100, []
    server = HTTPServer(("127.0.0.1", 0), Chat)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_endpoint_that_fails_half_way_is_asked_on(address: str, tmp_path: Path) -> None:
    judge = Endpoint(address, "grader", tmp_path / "kept.jsonl", key="secret")
    guesses, truths = ["aa", "aaaa", "?", "aa"], ["x", "y", "z", "x"]
    Chat.left = 2
    with pytest.raises(UserError, match=r"with 1 answers missing; what it said is in .*kept\.jsonl: ask again"):
        judge(guesses, truths)
    Chat.left = 100
    assert [each.score for each in judge(guesses, truths)] == [2, 4, 1, 2]
    assert [each.score for each in judge(guesses, truths)] == [2, 4, 1, 2]
    with (tmp_path / "kept.jsonl").open("a") as kept:
        kept.write('{"model": "other", "guess": "aa", "truth": "x", "score": 5}\n')
    assert judge(guesses, truths)[0].score == 2  # what another model said is not this one's
    assert len(Chat.asked) == 4  # one failed, the same pair is asked once, and nothing a second time
    assert {each["path"] for each in Chat.asked} == {"/v1/chat/completions"}
    assert all((each["model"], each["temperature"], each["key"]) == ("grader", 0, "Bearer secret") for each in Chat.asked)


@pytest.mark.parametrize("url", ["http://localhost:80x0/v1", "http://127.0.0.1:1/v1"])
def test_an_address_that_leads_nowhere_is_one_sentence(url: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"failed .* with 1 answers missing"):
        Endpoint(url, "grader", tmp_path / "kept.jsonl")(["a"], ["b"])


def test_an_address_is_of_the_web(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="http://"):
        Endpoint("file:///etc/passwd", "grader", tmp_path / "kept.jsonl")
