from __future__ import annotations

import http.client
import json
import re
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.errors import HarnessError, UsageError
from harness.runs.pairs import Pair
from harness.runs.schema import SCHEMA
from harness.runs.votes import Agreement, Vote
from harness.types import sha256
from harness.vote import agreement as agreement_of
from harness.vote import ballots_of, read_votes, write_agreement
from harness.vote.ballots import append_vote
from harness.vote.server import VoteServer, make_server
from tests.compare.compare_data import Row, records_of, summarise
from tests.report.conftest import until

HOSTILE = "<script>document.title='owned'</script><h1>Hello</h1>"
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c63f8cfc0f01f000500"
    "01ff89993d1d0000000049454e44ae426082"
)


def agreement(
    votes: Sequence[Vote | dict[str, Any]], rows: Sequence[Row], pairs: Sequence[tuple[str, str]] = ()
) -> dict[str, Any]:
    """Return the content of agreement.json from the content of the other files."""
    given = [Vote.model_validate(vote) for vote in votes]
    found = agreement_of(given, records_of(rows), pairs=[Pair(*pair) for pair in pairs])
    content: dict[str, Any] = Agreement(pairs=found).as_json()["pairs"]
    return content


def make_rows(tasks: int = 6) -> list[Row]:
    return [
        {
            "suite": "starter",
            "task": f"t{number}",
            "model": model,
            "sample": 0,
            "prompt_sha": sha256(f"t{number}"),
            "page": f"{HOSTILE}{model[0] * 3}{number}",
            "scores": {"conforming": int(model == "tuned"), "chrf": 10.0 * number, "renders": None},
            "shots": {"desktop": f"shots/{model}.png"},
        }
        for number in range(tasks)
        for model in ("base", "tuned")
    ]


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    (folder / "shots").mkdir(parents=True)
    for model in ("base", "tuned"):
        (folder / "shots" / f"{model}.png").write_bytes(PNG)
    rows = make_rows()
    (folder / "manifest.json").write_text(json.dumps({"schema": 1, "run": "run"}), "utf-8")
    (folder / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    tasks = [{"suite": "starter", "task": f"t{n}", "prompt": f"Write page {n}", "input": ""} for n in range(6)]
    (folder / "tasks.jsonl").write_text("".join(json.dumps(task) + "\n" for task in tasks), "utf-8")
    return folder


@pytest.fixture
def server(run_dir: Path) -> Iterator[VoteServer]:
    with make_server(run_dir, voter="ann", seed=1) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def ask(server: VoteServer, path: str, body: Any = None, **headers: str) -> tuple[int, bytes, dict[str, str]]:
    port = server.server_address[1]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    sent = {"Host": f"127.0.0.1:{port}", **{name.replace("_", "-"): value for name, value in headers.items()}}
    if body is not None:
        sent.setdefault("Content-Type", "application/json")
    method = "GET" if body is None else "POST"
    connection.request(method, path, None if body is None else json.dumps(body), sent)
    answer = connection.getresponse()
    return answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()}


def of(server: VoteServer, path: str) -> str:
    return f"/{server.token}/{path}"


def test_listens_on_loopback_alone(server: VoteServer) -> None:
    assert server.server_address[0] == "127.0.0.1"
    assert len(server.token) >= 32


def test_voting_to_the_end_writes_every_vote(server: VoteServer, run_dir: Path) -> None:
    chosen = []
    for choice in ("left", "right", "tie", "both-bad", "left", "right"):
        ballot = json.loads(ask(server, of(server, "next"))[1])
        status, _, _ = ask(server, of(server, "vote"), {"id": ballot["id"], "choice": choice})
        assert status == 200
        chosen.append(choice)
    assert json.loads(ask(server, of(server, "next"))[1]) == {"id": None, "done": 6, "total": 6}
    votes = read_votes(run_dir)
    assert {vote.task for vote in votes} == {f"t{n}" for n in range(6)}
    for vote, choice in zip(votes, chosen, strict=True):
        assert vote.chosen == (getattr(vote, choice) if choice in ("left", "right") else choice)
        assert vote.voter == "ann"


def test_a_ballot_does_not_say_who_wrote_what(server: VoteServer) -> None:
    text = ask(server, of(server, "next"))[1].decode()
    assert "tuned" not in text
    assert "base" not in text


def test_sides_are_shuffled(run_dir: Path) -> None:
    rows = make_rows(200)
    ballots = ballots_of(records_of(rows), {}, Pair("base", "tuned"), seed=0)
    left = sum(ballot.left.model == "base" for ballot in ballots)
    assert 70 < left < 130
    assert [b.task for b in ballots] != sorted(b.task for b in ballots)


def test_equal_pages_are_not_put_to_a_vote() -> None:
    rows = [{**row, "page": "same"} if row["task"] == "t0" else row for row in make_rows()]
    assert "t0" not in {ballot.task for ballot in ballots_of(records_of(rows), {}, Pair("base", "tuned"), seed=0)}


def test_a_voter_goes_on_where_they_stopped(server: VoteServer, run_dir: Path) -> None:
    ballot = json.loads(ask(server, of(server, "next"))[1])
    ask(server, of(server, "vote"), {"id": ballot["id"], "choice": "tie"})
    with make_server(run_dir, voter="ann") as again:
        assert json.loads(json.dumps(again.next_ballot()))["done"] == 1
    with make_server(run_dir, voter="bob") as other:
        assert other.next_ballot()["done"] == 0


def test_a_wrong_token_or_host_sees_nothing(server: VoteServer) -> None:
    assert ask(server, "/wrong/next")[0] == 403
    assert ask(server, "/")[0] == 403
    assert ask(server, of(server, "next"), Host="evil.example")[0] == 403
    assert ask(server, of(server, "next"), Host="127.0.0.1:1")[0] == 403


@pytest.mark.parametrize(
    "body", [{"id": "nobody", "choice": "left"}, {"choice": "left"}, [], {"id": [], "choice": "left"}, "x"]
)
def test_what_is_no_vote_is_refused(server: VoteServer, run_dir: Path, body: Any) -> None:
    assert ask(server, of(server, "vote"), body)[0] == 400
    ballot = json.loads(ask(server, of(server, "next"))[1])["id"]
    assert ask(server, of(server, "vote"), {"id": ballot, "choice": "tuned"})[0] == 400
    assert ask(server, of(server, "vote"), {"id": ballot, "choice": "left"}, Content_Type="text/plain")[0] == 400
    assert ask(server, of(server, "vote"), {"id": ballot, "choice": "left", "pad": "x" * 5000})[0] == 400
    assert read_votes(run_dir) == []


def test_the_page_may_load_nothing_from_elsewhere(server: VoteServer) -> None:
    status, body, headers = ask(server, of(server, ""))
    policy = headers["content-security-policy"]
    assert status == 200
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy
    assert "http://" not in body.decode()
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"


def test_screenshots_come_from_the_runs_folder_alone(server: VoteServer, run_dir: Path) -> None:
    ballot = json.loads(ask(server, of(server, "next"))[1])["id"]
    status, body, headers = ask(server, of(server, f"shot/{ballot}/left"))
    assert (status, body, headers["content-type"]) == (200, PNG, "image/png")
    secret = run_dir.parent / "secret.png"
    secret.write_bytes(b"secret")
    (run_dir / "shots" / "link.png").symlink_to(secret)
    for name in ("../secret.png", "shots/../../secret.png", str(secret), "shots/link.png", "manifest.json"):
        server.ballots[ballot].left.shots["desktop"] = name
        assert ask(server, of(server, f"shot/{ballot}/left"))[0] == 404
    assert ask(server, of(server, "shot/nobody/left"))[0] == 404
    assert ask(server, of(server, f"shot/{ballot}/../left"))[0] == 404


def test_a_torn_line_is_dropped_and_never_joined(tmp_path: Path) -> None:
    vote = Vote(suite="s", task="t", left="base", right="tuned", chosen="tie")
    path = tmp_path / "votes.jsonl"
    append_vote(path, vote)
    with path.open("ab") as file:
        file.write(b'{"suite": "s", "ta')
    append_vote(path, vote)
    assert read_votes(tmp_path) == [vote, vote]


def test_a_vote_that_cannot_be_written_is_not_counted(server: VoteServer, run_dir: Path) -> None:
    (run_dir / "votes.jsonl").mkdir()
    ballot = json.loads(ask(server, of(server, "next"))[1])["id"]
    status, body, _ = ask(server, of(server, "vote"), {"id": ballot, "choice": "left"})
    assert status == 507
    assert b"cannot be written" in body
    assert json.loads(ask(server, of(server, "next"))[1])["id"] == ballot
    with pytest.raises(HarnessError, match="cannot be written"):
        append_vote(run_dir / "votes.jsonl", Vote.model_validate(vote_for("t0", "tie")))


def test_mistakes_are_one_line(run_dir: Path) -> None:
    with pytest.raises(UsageError, match="no two models"):
        make_server(run_dir, pair=Pair("base", "nobody"))
    with pytest.raises(UsageError, match="no task"):
        make_server(run_dir, suite="other")
    with make_server(run_dir) as running, pytest.raises(UsageError, match="port"):
        make_server(run_dir, port=running.server_address[1])


def vote_for(task: str, chosen: str, voter: str = "ann", left: str = "base", right: str = "tuned") -> dict[str, Any]:
    return {"suite": "starter", "task": task, "left": left, "right": right, "chosen": chosen, "voter": voter}


def test_win_rate_and_agreement() -> None:
    votes = [vote_for("t0", "tuned"), vote_for("t1", "tuned", left="tuned", right="base"), vote_for("t2", "base")]
    votes += [vote_for("t3", "tie"), vote_for("t4", "both-bad")]
    found = agreement(votes, make_rows())["base:tuned"]
    assert (found["votes"], found["decided"], found["ties"], found["both_bad"]) == (5, 3, 1, 1)
    assert found["win_rate"] == pytest.approx(2 / 3)
    assert 0 < found["low"] < 2 / 3 < found["high"] < 1
    assert found["metrics"]["conforming"]["agreement"] == pytest.approx(2 / 3)
    assert found["metrics"]["chrf"] == {"n": 0, "silent": 3, "agreement": None, "low": None, "high": None}
    assert found["metrics"]["renders"]["silent"] == 3


def test_the_last_vote_of_a_voter_counts() -> None:
    votes = [vote_for("t0", "base"), vote_for("t0", "tuned")]
    assert agreement(votes, make_rows())["base:tuned"]["win_rate"] == 1.0


def test_several_voters_on_one_task_are_not_several_tasks() -> None:
    votes = [vote_for(f"t{n}", "tuned" if n % 3 else "base") for n in range(6)]
    crowd = [{**vote, "voter": name} for vote in votes for name in ("ann", "bob", "cem", "dee")]
    alone, many = (agreement(given, make_rows())["base:tuned"] for given in (votes, crowd))
    assert many["voters"] == 4
    assert many["win_rate"] == alone["win_rate"]
    assert many["high"] - many["low"] > 0.8 * (alone["high"] - alone["low"])


def test_a_score_that_only_rounding_raises_agrees_with_nobody() -> None:
    rows = [{**row, "scores": {"bleu": 100.0 if row["model"] == "base" else 100.00000000000004}} for row in make_rows()]
    vote = {"voter": "ann", "suite": "starter", "task": "t1", "left": "base", "right": "tuned", "chosen": "tuned"}
    (found,) = agreement([vote], rows)["base:tuned"]["metrics"].values()
    assert (found["n"], found["silent"]) == (0, 1)


def test_a_vote_of_a_model_against_itself_says_nothing() -> None:
    itself = {"voter": "ann", "suite": "starter", "task": "t1", "left": "base", "right": "base", "chosen": "base"}
    assert agreement([itself], make_rows()) == {}


def test_no_votes_are_no_agreement() -> None:
    assert agreement([], make_rows()) == {}


def test_the_page_in_a_browser_takes_keys_and_runs_nothing_of_an_answer(
    server: VoteServer, run_dir: Path, browser: Any
) -> None:
    page = browser.new_page()
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(server.url)
    page.get_by_text("0 of 6 judged").wait_for()
    assert (page.locator("#prompt").text_content() or "").startswith("Write page")
    page.keyboard.press("c")
    assert HOSTILE in (page.locator("#left-code").text_content() or "")
    for side in ("left", "right"):
        until(page, f"document.querySelector('#{side}-image').naturalWidth === 1")
    assert page.locator("img:visible").count() == 2
    for done, key in enumerate(("ArrowLeft", "ArrowRight", "ArrowDown", "x", "1"), 1):
        page.keyboard.press(key)
        page.get_by_text(f"{done} of 6 judged").wait_for()
    page.get_by_role("button", name="B is better").click()
    page.get_by_text("All judged").wait_for()
    assert page.title() == "Which page is better?"
    assert problems == []
    page.close()
    assert len(read_votes(run_dir)) == 6


def test_a_saved_vote_whose_successor_does_not_come_is_not_called_lost_and_not_given_twice(
    server: VoteServer, run_dir: Path, browser: Any
) -> None:
    page = browser.new_page()
    page.goto(server.url)
    page.get_by_text("0 of 6 judged").wait_for()
    page.route("**/next", lambda route: route.abort())
    page.keyboard.press("1")
    page.get_by_text("The next pair did not come").wait_for()
    page.keyboard.press("2")
    page.unroute("**/next")
    page.reload()
    page.get_by_text("1 of 6 judged").wait_for()
    page.close()
    assert len(read_votes(run_dir)) == 1


def seeded_rows() -> list[Row]:
    return [
        {**row, "model": f"tuned#seed{seed}", "page": f"{row['page']}{seed}", "scores": {"conforming": seed}}
        for row in make_rows()
        if row["model"] == "tuned"
        for seed in (0, 1)
    ] + [{**row, "scores": {"conforming": 0.5}} for row in make_rows() if row["model"] == "base"]


def test_a_model_trained_several_times_is_voted_on_under_its_name(run_dir: Path) -> None:
    rows = seeded_rows()
    (run_dir / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    with make_server(run_dir, voter="ann", seed=3) as server:
        assert len(server.ballots) == 6
        shown = {side.model for ballot in server.ballots.values() for side in (ballot.left, ballot.right)}
        assert shown == {"base", "tuned#seed0", "tuned#seed1"}
        for name, ballot in server.ballots.items():
            server.record(name, "left" if ballot.left.model != "base" else "right")
    with make_server(run_dir, pair=Pair("base", "tuned"), voter="ann", seed=4) as again:
        assert again.next_ballot()["id"] is None
    found = agreement(read_votes(run_dir), rows)
    assert list(found) == ["base:tuned"]
    assert (found["base:tuned"]["win_rate"], found["base:tuned"]["decided"]) == (1.0, 6)
    # Seed 1 scores above base and seed 0 below, and people chose both: the metric agrees where seed 1 was shown.
    ones = sum("tuned#seed1" in (vote.left, vote.right) for vote in read_votes(run_dir))
    assert found["base:tuned"]["metrics"]["conforming"]["agreement"] == pytest.approx(ones / 6)


def test_agreement_is_a_file_of_its_own(run_dir: Path) -> None:
    assert write_agreement(run_dir) is None
    assert not (run_dir / "agreement.json").exists()
    vote = {"suite": "starter", "task": "t1", "left": "tuned", "right": "base", "chosen": "tuned", "voter": "ann"}
    append_vote(run_dir / "votes.jsonl", Vote.model_validate(vote))
    path = write_agreement(run_dir)
    assert path == run_dir / "agreement.json"
    content = json.loads(path.read_text("utf-8"))
    assert content["schema"] == SCHEMA
    assert content["pairs"] == json.loads(json.dumps(agreement([vote], make_rows())))
    assert not (run_dir / "summary.json").exists()


def test_the_command_prints_the_address_whole(
    run_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.cli.vote import vote

    monkeypatch.setenv("COLUMNS", "30")
    monkeypatch.setattr(VoteServer, "serve_forever", lambda self: None)
    append_vote(
        run_dir / "votes.jsonl",
        Vote(suite="starter", task="t1", left="tuned", right="base", chosen="tuned", voter="bob"),
    )
    vote(str(run_dir))
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"Vote at http://127\.0\.0\.1:\d+/[\w-]{32}/ \(6 pairs to judge; stop with Ctrl-C\)", lines[0])
    assert "0 votes kept" in lines
    assert "What people say" in (run_dir / "index.html").read_text("utf-8")
    with pytest.raises(UsageError, match="two models"):
        vote(str(run_dir), pair="base")


def test_the_question_is_about_the_pair_of_the_verdict(tmp_path: Path) -> None:
    rows = [{**row, "model": name} for row in make_rows() for old, name in PAIRED.items() if row["model"] == old]
    manifest = {
        "run": "r",
        "scorers": {"conforming": {"version": 1, "kind": "form", "scale": "binary", "primary": True}},
        "models": {
            "notebook": {"kind": "tuned", "family": "notebook"},
            "prompt": {"kind": "control", "family": None},
            "tuned-looking": {"kind": "base", "family": "tuned-looking"},
        },
    }
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "tasks.jsonl").touch()
    summary = summarise(rows, manifest["scorers"], models=manifest["models"], replicates=99)
    with make_server(tmp_path) as server:
        asked = {side.model for ballot in server.ballots.values() for side in (ballot.left, ballot.right)}
    assert summary["verdict"]["pair"] == "tuned-looking:notebook"
    assert asked == {"tuned-looking", "notebook"}


PAIRED = {"base": "tuned-looking", "tuned": "notebook"}


def test_the_second_model_of_a_vote_is_the_second_of_the_verdict() -> None:
    rows = [{**row, "model": PAIRED[row["model"]]} for row in make_rows()]
    vote = {"voter": "", "suite": "starter", "task": "t0", "left": "notebook", "right": "tuned-looking"}
    (found,) = agreement([{**vote, "chosen": "notebook"}], rows, pairs=[("tuned-looking", "notebook")])
    assert found == "tuned-looking:notebook"
    (reversed_pair,) = agreement([{**vote, "chosen": "notebook"}], rows, pairs=[("notebook", "tuned-looking")])
    assert reversed_pair == "notebook:tuned-looking"


def test_votes_on_pages_that_are_gone_do_not_count_for_the_new_ones(run_dir: Path) -> None:
    with make_server(run_dir, voter="ann", seed=1) as server:
        for name in list(server.ballots)[:3]:
            server.record(name, "left")
    assert agreement(read_votes(run_dir), make_rows())["base:tuned"]["votes"] == 3
    rows = make_rows()
    (voted, *_) = read_votes(run_dir)
    for row in rows:
        row["page"] += "<p>anew" if row["task"] == voted.task and row["model"] == "tuned" else ""
    found = agreement(read_votes(run_dir), rows)["base:tuned"]
    assert (found["votes"], found["outdated"]) == (2, 1)
    without = [row for row in rows if row["model"] == "base"]
    assert agreement(read_votes(run_dir), without)["base:tuned"]["outdated"] == 3
    (run_dir / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    (run_dir / "samples.jsonl").rename(run_dir / "aside")
    assert write_agreement(run_dir) is None
    (run_dir / "aside").rename(run_dir / "samples.jsonl")
    with make_server(run_dir, voter="ann", seed=1) as server:
        assert len(server.judged) == 2  # the changed pair is asked for again
        (again,) = [name for name, ballot in server.ballots.items() if ballot.task == voted.task]
        server.record(again, "tie")
    found = agreement(read_votes(run_dir), rows)["base:tuned"]
    assert (found["votes"], found["outdated"], found["ties"]) == (3, 0, 1)


def test_a_vote_without_its_pages_does_not_come_back_where_it_was_given_again(run_dir: Path) -> None:
    old = {"voter": "ann", "suite": "starter", "task": "t1", "left": "base", "right": "tuned", "chosen": "base"}
    later = old | {"chosen": "tuned", "left_page": sha256("gone"), "right_page": sha256("gone too")}
    assert agreement([old], make_rows())["base:tuned"]["votes"] == 1
    found = agreement([old, later], make_rows())["base:tuned"]
    assert (found["votes"], found["outdated"]) == (0, 1)
    known = old | {"left_page": sha256(f"{HOSTILE}bbb1"), "right_page": sha256(f"{HOSTILE}ttt1")}
    assert agreement([known, later], make_rows())["base:tuned"]["votes"] == 1
    (run_dir / "votes.jsonl").write_text("".join(json.dumps(vote) + "\n" for vote in (old, later)), "utf-8")
    with make_server(run_dir, voter="ann", seed=1) as server:
        assert not server.judged
