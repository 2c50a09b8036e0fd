"""A small real server on loopback that can be told to be busy, broken or gone."""

from __future__ import annotations

import functools
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from harness.errors import HarnessError, UsageError
from harness.generate.openai.backend import ServedModel
from harness.generate.settings import GenerationSettings
from harness.model.profile_schema import Price, Served
from harness.model.prompt import PromptRenderer
from harness.runs.samples import SampleRecord, Timing
from harness.types import Completion, Task

TASKS = [Task(f"t{number}", f"A page about {word}") for number, word in enumerate(("bread", "rain", "chess", "salt"))]


class Server:
    """Answers with the prompt in a page; `faults` are given out first, one for each request."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        self.faults: list[tuple[int, dict[str, str], str] | None] = []
        self.finish_reason: str | None = "stop"
        self.tail = ""
        self.lock = threading.Lock()
        self.under_way = self.most_at_once = 0
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with server.lock:
                    server.times.append(time.monotonic())
                    server.headers.append(dict(self.headers))
                    server.under_way += 1
                    server.most_at_once = max(server.most_at_once, server.under_way)
                    fault = server.faults.pop(0) if server.faults else (200, {}, "")
                    if fault is not None and fault[0] == 200:
                        server.asked.append(body)
                time.sleep(0.02)
                with server.lock:
                    server.under_way -= 1
                if fault is None:  # hang up in the middle of the answer
                    self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
                    self.close_connection = True
                    return
                status, headers, said = fault
                text = said or json.dumps(server.answer(self.path, body))
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(text.encode())))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def answer(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        said = body["messages"][-1]["content"] if path.endswith("/chat/completions") else body["prompt"]
        text = f"<html><p>{said} {body.get('seed', '')}</p></HTML>{self.tail}"
        content = {"message": {"content": text}} if path.endswith("/chat/completions") else {"text": text}
        return {
            "choices": [{**content, "finish_reason": self.finish_reason}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 20},
        }

    def prompts(self) -> list[str]:
        return sorted(body["messages"][-1]["content"] for body in self.asked)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    found = Server()
    yield found
    found.http.shutdown()
    found.http.server_close()


def model(server: Server, *, chat: bool = True, samples: int = 1, name: str = "served", **more: Any) -> ServedModel:
    served = Served(**({"url": server.url, "model": "m", "concurrency": 2, "patience_s": 5} | more))
    settings = GenerationSettings(50, 2, temperature=0.7 if samples > 1 else 0.0, samples=samples, cut_loops=False)
    return ServedModel(name, served, PromptRenderer("Write: {{ prompt }}", chat), settings)


def test_every_task_is_asked_once_and_never_again(own_cache: Path, server: Server) -> None:
    first = model(server).complete(TASKS)
    assert [done.task for done in first] == ["t0", "t1", "t2", "t3"]
    assert first[0].text == "<html><p>Write: A page about bread </p></HTML>"
    assert (first[0].finish_reason, first[0].prompt_tokens, first[0].completion_tokens) == ("stop", 10, 20)
    assert server.asked[0].keys() == {"model", "messages", "max_tokens", "temperature"}
    assert server.most_at_once == 2
    again = model(server, name="other", concurrency=1).complete(TASKS)
    assert len(server.asked) == 4
    assert [done.text for done in again] == [done.text for done in first]
    model(server, body={"top_p": 0.5, "max_tokens": None, "max_completion_tokens": 9}).complete(TASKS[:1])
    assert server.asked[-1].keys() == {"model", "messages", "temperature", "top_p", "max_completion_tokens"}


@pytest.mark.parametrize(
    "fault", [(429, {"Retry-After": "0.05"}, "slow"), (500, {}, "broken"), (200, {}, "not json"), None]
)
def test_a_busy_or_broken_server_is_asked_again(own_cache: Path, server: Server, fault: Any) -> None:
    calm = [done.text for done in model(server).complete(TASKS)]
    server.faults = [fault, fault]
    assert [done.text for done in model(server).complete(TASKS, fresh=True)] == calm
    assert len(server.times) == 10  # four calm, then four and two faults


def test_nobody_asks_while_the_server_wants_to_be_left_alone(own_cache: Path, server: Server) -> None:
    server.faults = [(429, {"Retry-After": "0.6"}, "slow")]
    model(server, concurrency=1).complete(TASKS[:2])
    assert server.times[1] - server.times[0] >= 0.6


def test_requests_keep_to_the_rate(own_cache: Path, server: Server) -> None:
    model(server, concurrency=4, requests_per_minute=300).complete(TASKS)
    assert all(later - earlier >= 0.15 for earlier, later in zip(server.times, server.times[1:], strict=False))


def test_an_end_in_the_middle_keeps_what_was_answered(own_cache: Path, server: Server) -> None:
    seen: list[Completion] = []

    def stops(done: Completion, stored: bool) -> None:
        seen.append(done)
        if len(seen) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model(server, concurrency=1).complete(TASKS, on_done=stops)
    kept: list[str] = []
    model(server).complete(TASKS, on_done=lambda done, stored: kept.append(done.task) if stored else None)
    assert sorted(kept) == sorted(done.task for done in seen)


def test_a_server_that_is_away_is_one_line(own_cache: Path, server: Server) -> None:
    server.faults = [(503, {}, "loading")] * 1000
    with pytest.raises(HarnessError, match=r"gave no answer for .* 503 loading .*what it has answered is kept"):
        model(server, patience_s=0.5).complete(TASKS)
    with pytest.raises(HarnessError, match="gave no answer"):
        model(server, url="http://127.0.0.1:9/v1", patience_s=0.1).complete(TASKS)


def test_a_refusal_is_one_line_without_the_key(
    own_cache: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_KEY", "sk-verysecret")
    said = json.dumps({"error": {"message": "Incorrect API key: sk-verysecret"}})
    server.faults = [(401, {}, said)] * 4
    with pytest.raises(HarnessError) as caught:
        model(server, key_env="SOME_KEY").complete(TASKS)
    assert "401 Incorrect API key: …" in str(caught.value) and "SOME_KEY" in str(caught.value)
    assert "verysecret" not in str(caught.value)
    server.faults.clear()
    assert server.headers[0]["Authorization"] == "Bearer sk-verysecret"
    model(server, key_env="SOME_KEY").complete(TASKS)
    kept = "".join(file.read_text() for file in own_cache.rglob("*") if file.is_file())
    assert "verysecret" not in kept
    assert "verysecret" not in json.dumps(model(server, key_env="SOME_KEY").manifest().as_json())
    monkeypatch.delenv("SOME_KEY")
    with pytest.raises(UsageError, match="SOME_KEY is not set"):
        model(server, key_env="SOME_KEY").complete(TASKS, fresh=True)
    server.faults = [(429, {}, json.dumps({"error": {"code": "insufficient_quota", "message": "no money"}}))] * 4
    with pytest.raises(HarnessError, match="429 no money"):
        model(server).complete(TASKS, fresh=True)


def test_a_prompt_longer_than_the_context_is_a_named_failure(own_cache: Path, server: Server) -> None:
    said = json.dumps({"error": {"message": "This model's maximum context length is 2048 tokens."}})
    server.faults = [(400, {}, said)]
    first, *others = model(server, concurrency=1).complete(TASKS)
    assert (first.text, first.finish_reason) == ("", "error")
    assert "maximum context length is 2048" in first.note
    assert {done.finish_reason for done in others} == {"stop"}


@pytest.mark.parametrize(
    ("word", "ours"),
    [
        *((word, "eos") for word in ("stop", "end_turn", "stop_sequence", "eos", "tool_calls", None, "whatever")),
        *((word, "length") for word in ("length", "max_tokens", "MAX_TOKENS", "model_length")),
        *((word, "error") for word in ("content_filter", "error", "SAFETY", "cancelled")),
    ],
)
def test_finish_reasons_are_ours(
    own_cache: Path, server: Server, monkeypatch: pytest.MonkeyPatch, word: str | None, ours: str
) -> None:
    server.finish_reason = word
    monkeypatch.setattr(
        server, "answer", lambda path, body: {"choices": [{"message": {"content": ""}, "finish_reason": word}]}
    )
    (done,) = model(server).complete(TASKS[:1])
    assert (done.text, done.finish_reason) == ("", ours)


def test_an_answer_ends_at_the_end_tag(own_cache: Path, server: Server) -> None:
    server.tail, server.finish_reason = "\nI hope you like it!", "length"
    (done,) = model(server).complete(TASKS[:1])
    assert done.text.endswith("</HTML>") and done.finish_reason == "stop"


def test_samples_have_seeds_of_their_own(own_cache: Path, server: Server) -> None:
    drawn = model(server, samples=3).complete(TASKS[:2])
    seeds = {body["seed"] for body in server.asked}
    assert len(seeds) == len({done.text for done in drawn}) == 6
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert [done.text for done in model(server, samples=3).complete(TASKS[:2], fresh=True)] == [d.text for d in drawn]


def test_whole_prompts_go_to_completions(own_cache: Path, server: Server) -> None:
    (done,) = model(server, chat=False).complete(TASKS[:1])
    assert server.asked[0]["prompt"] == "Write: A page about bread"
    assert "Write: A page about bread" in done.text


def test_what_the_answers_cost_follows_from_prices_and_tokens(server: Server) -> None:
    priced = model(server, price=Price(prompt=2, completion=10, currency="EUR"))
    timing = Timing(prompt_tokens=1000, completion_tokens=500)
    rows = [SampleRecord(suite="s", task="t", model="served", sample=0, scores={}, timing=timing)] * 2
    cost = priced.price(rows)
    assert cost is not None
    assert (cost.amount, cost.currency) == (0.014, "EUR")
    assert model(server).price(rows) is None


@pytest.mark.parametrize("url", ["localhost:8000", "http://me:key@host/v1", "https://host/v1?key=1", "ftp://host"])
def test_a_url_is_plain(url: str) -> None:
    with pytest.raises(ValueError, match=r"http://localhost|key_env"):
        Served(url=url, model="m")


def choice(message: Any, word: str | None = "stop") -> str:
    return json.dumps({"choices": [{"message": message, "finish_reason": word}]})


PAGE = "<html><p>Hi</p></html>"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([{"type": "text", "text": PAGE}], PAGE),
        ([{"type": "text", "text": "<html><p>"}, {"type": "text", "text": "Hi</p></html>"}], PAGE),
        ([{"type": "thinking", "thinking": [{"type": "text", "text": "<html></html>"}]}, {"text": PAGE}], PAGE),
        ([{"type": "reasoning", "text": "a <html></html>?"}, {"type": "output_text", "text": PAGE}], PAGE),
        (["<html><p>", "Hi</p></html>"], PAGE),
        ({"parts": [{"text": "hm", "thought": True}, {"text": PAGE}]}, PAGE),
        (f"<think>first <html></html></think>{PAGE} and so on", f"<think>first <html></html></think>{PAGE}"),
        ("<html><script>a = '</html>'</script></html>!", "<html><script>a = '</html>'</script></html>"),
    ],
)  # fmt: skip
def test_contents_are_joined_and_end_behind_the_page(own_cache: Path, server: Server, content: Any, text: str) -> None:
    server.faults = [(200, {}, choice({"content": content, "reasoning_content": "<html>thought</html>"}))]
    (done,) = model(server).complete(TASKS[:1])
    assert (done.text, done.finish_reason) == (text, "stop")


def test_a_limit_within_the_page_is_told_in_every_word(own_cache: Path, server: Server) -> None:
    server.faults = [(200, {}, choice({"content": "<html><p>Hi"}, "model_length"))]
    (done,) = model(server).complete(TASKS[:1])
    assert (done.text, done.finish_reason) == ("<html><p>Hi", "length")


@pytest.mark.parametrize(
    ("fault", "note"),
    [
        ((422, {}, '{"detail": "no such thing"}'), "422 no such thing"),
        ((400, {}, '{"error": {"message": "content management policy", "code": "content_filter"}}'), "policy"),
        ((403, {}, '{"error": {"message": "flagged by moderation"}}'), "flagged"),
        ((200, {}, '{"choices": []}'), "no choice"),
        ((200, {}, choice({})), "no content"),
        ((200, {}, choice({"content": None, "tool_calls": [{}]}, "tool_calls")), "tool"),
        ((200, {}, choice({"content": None, "refusal": "I will not"})), "I will not"),
        ((200, {}, choice({"content": None}, "content_filter")), "filter"),
        ((200, {}, '{"error": {"message": "bad words", "code": 400}}'), "bad words"),
    ],
)
def test_one_row_refused_is_that_rows_error(own_cache: Path, server: Server, fault: Any, note: str) -> None:
    server.faults = [(200, {}, ""), fault]
    done = model(server, concurrency=1).complete(TASKS)
    assert [one.finish_reason for one in done] == ["stop", "error", "stop", "stop"]
    assert (done[1].text, done[1].unanswered) == ("", "") and note in done[1].note
    before = len(server.times)
    assert before == 4
    again = model(server, concurrency=1).complete(TASKS)
    assert len(server.times) == before and [one.note for one in again] == [one.note for one in done]


@pytest.mark.parametrize(
    "fault", [(422, {}, '{"detail": "seed: unknown field"}'), (200, {}, '{"choices": []}'), (200, {}, choice({}))]
)
def test_a_refusal_of_every_row_ends_the_run_early(own_cache: Path, server: Server, fault: Any) -> None:
    tasks = [Task(f"t{number}", f"Page {number}") for number in range(40)]
    server.faults = [fault] * 1000
    for _ in range(2):
        before = len(server.times)
        with pytest.raises(HarnessError, match=r"refuses every row .*omit: "):
            model(server).complete(tasks)
        assert len(server.times) - before < 14
    server.faults = []
    assert {one.finish_reason for one in model(server).complete(tasks)} == {"stop"}


def test_refusals_at_the_beginning_are_kept_once_a_row_is_answered(own_cache: Path, server: Server) -> None:
    tasks = [Task(f"t{number}", f"Page {number}") for number in range(12)]
    server.faults = [(422, {}, "no")] * 7
    done = model(server, concurrency=1).complete(tasks)
    assert [one.finish_reason for one in done] == ["error"] * 7 + ["stop"] * 5
    # what is left of a run is not every row
    server.faults = [(422, {}, "no")] * 2
    more = model(server).complete([*tasks, Task("a", "A"), Task("b", "B")])
    assert [one.finish_reason for one in more[-2:]] == ["error", "error"]


def test_a_row_that_the_server_breaks_on_is_not_measured(own_cache: Path, server: Server) -> None:
    def poisoned(path: str, body: dict[str, Any]) -> dict[str, Any]:
        if "rain" in body["messages"][-1]["content"]:
            return {"error": {"message": "worker died", "code": 500}}
        time.sleep(0.3)
        return Server.answer(server, path, body)

    server.answer = poisoned  # type: ignore[method-assign]
    done = model(server, patience_s=2.5).complete(TASKS)
    assert [one.finish_reason for one in done] == ["stop", "error", "stop", "stop"]
    assert "500 worker died" in done[1].unanswered
    server.answer = functools.partial(Server.answer, server)  # type: ignore[method-assign]
    assert [one.finish_reason for one in model(server).complete(TASKS)] == ["stop"] * 4  # it was not kept


def test_the_only_row_stands_for_all_where_a_status_refuses_it(own_cache: Path, server: Server) -> None:
    server.faults = [(422, {}, "seed: unknown field")]
    with pytest.raises(HarnessError, match=r"422 seed: unknown field .*omit: "):
        model(server).complete(TASKS[:1])
    assert not list(own_cache.glob("completions/*.jsonl"))
    model(server).complete(TASKS[1:2])
    server.faults = [(422, {}, "no")]
    assert model(server).complete(TASKS[:2])[0].note == "refused by the server: 422 no"


def test_fields_that_a_server_does_not_know_are_taken_out(own_cache: Path, server: Server) -> None:
    drawn = model(server, samples=2, omit=["seed", "max_tokens"])
    drawn.complete(TASKS[:1])
    assert server.asked[0].keys() == {"model", "messages", "temperature"}
    assert drawn.identity() != model(server, samples=2).identity()
    assert (drawn.manifest().server or {})["omit"] == ["max_tokens", "seed"]
    for wrong in ({"omit": ["messages"]}, {"omit": ["temperature"], "body": {"temperature": 1}}):
        with pytest.raises(ValueError, match="omit"):
            Served(url=server.url, model="m", **wrong)


def events(*contents: Any, word: str | None = "stop", end: str = "data: [DONE]\n\n") -> str:
    chunks = [{"choices": [{"delta": {"content": content}, "finish_reason": None}]} for content in contents]
    chunks += [{"choices": [{"delta": {}, "finish_reason": word}]}] if word else []
    chunks += [{"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}]
    return ": ping\n\n" + "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + end


@pytest.mark.parametrize("how", ["asked for", "said so", "by itself"])
def test_a_server_that_only_streams(own_cache: Path, server: Server, how: str) -> None:
    stream = (200, {"Content-Type": "text/event-stream"}, events("<html>", None, "<p>Hi\u2028</p></ht", "ml>!"))
    said = (400, {}, '{"error": {"message": "This model only supports stream=true"}}')
    server.faults = [said, stream, stream] if how == "said so" else [stream, stream]
    done = model(server, concurrency=1, **({"stream": True} if how == "asked for" else {})).complete(TASKS[:2])
    assert [one.text for one in done] == ["<html><p>Hi\u2028</p></html>"] * 2
    assert (done[0].finish_reason, done[0].prompt_tokens, done[0].completion_tokens) == ("stop", 3, 4)
    assert [body.get("stream", False) for body in server.asked] == [how != "by itself"] * 2
    assert len(server.times) == (3 if how == "said so" else 2)


def test_a_stream_that_broke_off_is_asked_for_again(own_cache: Path, server: Server) -> None:
    server.faults = [(200, {"Content-Type": "text/event-stream"}, events("<html>", word=None, end=""))]
    (done,) = model(server).complete(TASKS[:1])
    assert done.text.startswith("<html><p>Write") and len(server.times) == 2
