from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from harness.report import write_report
from harness.vote import write_agreement
from tests.report.conftest import AXE, until
from tests.report.synthetic import make_run


def address(run_dir: Path, rest: str = "") -> str:
    return (run_dir / "index.html").as_uri() + rest


def rows(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / "samples.jsonl").read_text().splitlines()]


def shown(page: Any) -> str:
    return str(page.locator("#shown").evaluate("(e) => e.firstChild.textContent"))


def to_gallery(page: Any) -> None:
    page.evaluate("document.querySelector('#gallery').scrollIntoView({behavior: 'instant'})")
    page.wait_for_selector(".card")


def axe(page: Any) -> list[str]:
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run(document, {iframes: false, resultTypes: ['violations']}).then((r) => r.violations)")
    return [f"{one['id']}: {[node['target'] for node in one['nodes'][:3]]}" for one in found]


def test_the_verdict_comes_first_and_a_picture_follows(page: Any, run_dir: Path) -> None:
    sentence = json.loads((run_dir / "summary.json").read_text())["verdict"]["sentence"]
    page.goto(address(run_dir))
    first = page.locator("main h2").first
    assert sentence.startswith(first.inner_text().removesuffix("."))
    picture = page.locator("figure.plot svg:visible").first
    assert picture.get_attribute("role") == "img"
    assert "paired differences with 95 % intervals" in (picture.locator("title").text_content() or "")
    assert re.search(r"BLEU, DOM \+\d", picture.locator("desc").text_content() or "")


def test_search_and_filters_agree_with_the_rows(page: Any, run_dir: Path) -> None:
    page.goto(address(run_dir))
    assert shown(page) == "60 tasks"
    page.fill("#filter-q", "porto")
    assert shown(page) == "10 of 60 tasks"
    page.click("#reset")
    page.select_option("#filter-category", "forms")
    assert shown(page) == "10 of 60 tasks"
    page.click("#reset")
    blank = {row["task"] for row in rows(run_dir) if row["model"] == "base" and row["outcome"] == "blank"}
    group = page.locator('#filter-outcome optgroup[label="base"] option', has_text="blank")
    assert f"({len(blank)})" in group.inner_text()
    page.select_option("#filter-outcome", group.get_attribute("value"))
    assert shown(page).startswith(f"{len(blank)} of")
    page.click("#reset")
    flips = json.loads((run_dir / "summary.json").read_text())["suites"]["html_starter"]["flips"]["base:tuned"]
    page.select_option("#filter-metric", "conforming")
    for change, side in (("better", "gained"), ("worse", "lost")):
        page.select_option("#filter-change", change)
        count = len(flips["conforming"][side])
        assert shown(page).startswith(f"{count} of") if count else page.locator("#cards .empty").is_visible()
    page.click("#reset")
    failed = {
        r["task"]
        for r in rows(run_dir)
        if r["model"] == "tuned" and any(not c["passed"] and "label" in c["why"] for c in r["checks"])
    }
    option = page.locator('#filter-check optgroup[label="tuned"] option', has_text="each field has a label")
    page.select_option("#filter-check", option.get_attribute("value"))
    assert shown(page).startswith(f"{len(failed)} of")


def test_a_damaged_link_shows_what_can_be_shown(page: Any, run_dir: Path) -> None:
    row = next(r for r in rows(run_dir) if r["model"] == "base")
    page.goto(address(run_dir, f"#task={row['task']}&view=constructor&show=%5B&sort=constructor"))
    page.wait_for_selector("dialog[open] .answer")
    assert page.locator("#view-desktop").is_checked() and page.locator("section.answer").count() == 3


def test_order_by_loss(page: Any, run_dir: Path) -> None:
    page.goto(address(run_dir, "#sort=loss&metric=bleu_dom"))
    to_gallery(page)
    scores = {(r["task"], r["model"]): r["scores"]["bleu_dom"] for r in rows(run_dir)}
    tasks = sorted({task for task, _ in scores}, key=lambda task: (scores[task, "tuned"] - scores[task, "base"], task))
    assert page.locator(".card .meta code").first.inner_text() == tasks[0]
    assert page.locator("#filter-sort").input_value() == "loss"


def test_only_cards_near_the_window_exist(page: Any, run_dir: Path) -> None:
    page.goto(address(run_dir))
    page.evaluate("document.querySelector('#facts').scrollIntoView({behavior: 'instant'})")
    until(page, "document.querySelector('.card[aria-posinset=\"60\"]')")
    assert page.locator(".card").count() < 12
    assert page.locator(".card").last.get_attribute("aria-setsize") == "60"


def test_deep_link_opens_the_task_and_back_closes_it(page: Any, run_dir: Path) -> None:
    row = next(r for r in rows(run_dir) if r["model"] == "base" and r["messages"])
    page.goto(address(run_dir, f"#task={row['task']}&view=code"))
    page.wait_for_selector("dialog[open] .code")
    section = page.locator('section.answer[aria-label="base"]')
    line = row["messages"][0]["line"]
    assert section.locator(f'[data-line="{line}"] + .said').first.inner_text().startswith("nu Stray end tag")
    code = section.locator(".line code").all_inner_texts()
    assert "\n".join(code) == row["page"]
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog:not([open])", state="attached")
    until(page, "!location.hash.includes('task=')")


def test_keyboard(page: Any, run_dir: Path) -> None:
    page.goto(address(run_dir))
    page.keyboard.press("j")
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.closest('.card').getAttribute('aria-posinset')") == "2"
    page.keyboard.press("k")
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog[open]")
    first = page.url
    page.keyboard.press("ArrowRight")
    until(page, f"location.href !== {first!r}")
    page.keyboard.press("k")
    until(page, f"location.href === {first!r}")
    page.keyboard.press("4")
    page.wait_for_selector(".code.diff")
    assert "view=diff" in page.url
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog:not([open])", state="attached")
    page.keyboard.press("/")
    page.keyboard.type("jk")
    assert page.locator("#filter-q").input_value() == "jk"


def test_difference_from_the_reference_is_empty_for_the_reference(page: Any, run_dir: Path) -> None:
    page.goto(address(run_dir))
    to_gallery(page)
    task = page.locator(".card .meta code").first.inner_text()
    page.goto(address(run_dir, f"#task={task}&view=diff"))
    page.wait_for_selector("dialog[open]")
    assert "the same as the reference" in page.locator('section.answer[aria-label="reference"]').inner_text()
    changed = page.locator('section.answer[aria-label="base"] .plus, section.answer[aria-label="base"] .minus')
    assert changed.count() > 0
    # A style sheet is compared declaration by declaration, not as one line.
    assert max(len(line) for line in changed.locator("code").all_inner_texts()) < 120


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("rest", ["", "#task", "#task&view=code", "#task&view=diff", "index"])
def test_axe_finds_nothing(browser: Any, run_dir: Path, scheme: str, rest: str) -> None:
    page = browser.new_page(color_scheme=scheme, viewport={"width": 1280, "height": 900})
    task = next(r["task"] for r in rows(run_dir) if r["messages"])
    page.goto(
        (run_dir.parent / "index.html").as_uri()
        if rest == "index"
        else address(run_dir, rest.replace("#task", f"#task={task}"))
    )
    if rest.startswith("#"):
        page.wait_for_selector("dialog[open] .findings")
    elif not rest:
        to_gallery(page)
    assert axe(page) == []
    page.close()


def test_axe_finds_nothing_on_a_phone_and_nothing_sticks_out(browser: Any, run_dir: Path) -> None:
    page = browser.new_page(viewport={"width": 375, "height": 800})
    page.goto(address(run_dir))
    to_gallery(page)
    assert axe(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") == 375
    page.close()


def test_dark_mode_follows_the_system_and_the_button(browser: Any, run_dir: Path) -> None:
    page = browser.new_page(color_scheme="dark")
    page.goto(address(run_dir))
    paper = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(paper) == "rgb(20, 22, 26)"
    page.click("#theme")
    assert page.evaluate(paper) == "rgb(251, 250, 248)"
    line = page.evaluate("getComputedStyle(document.querySelector('.plot .wide text')).fill")
    assert line != "rgb(0, 0, 0)"
    page.close()


def test_paper_holds_every_task_every_table_and_no_controls(page: Any, run_dir: Path, tmp_path: Path) -> None:
    import shutil
    import subprocess

    page.goto(address(run_dir))
    path = tmp_path / "report.pdf"
    page.pdf(path=str(path), format="A4")
    assert path.read_bytes().startswith(b"%PDF")
    # What the browser made ready for paper, looked at closely.
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator(".card").count() == 60
    assert page.locator(".card code").all_inner_texts() == sorted({row["task"] for row in rows(run_dir)})
    assert not page.locator("#filters").is_visible()
    assert page.locator("main details:not([open])").count() == 0
    tops = page.evaluate("[...document.querySelectorAll('.card')].map((c) => c.getBoundingClientRect().top)")
    assert tops == sorted(tops) and len(set(tops)) == 60
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator(".card").count() < 12 and page.locator("table.powers").is_hidden()
    if shutil.which("pdftotext"):
        text = subprocess.run(["pdftotext", "-layout", path, "-"], capture_output=True, text=True, check=True).stdout
        assert {row["task"] for row in rows(run_dir)} <= set(text.split())
        assert "Smallest detectable difference" in text and "Filters" not in text


def test_paper_holds_what_the_filter_leaves(page: Any, run_dir: Path) -> None:
    page.goto(address(run_dir, "#category=forms"))
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator(".card").count() == 10


def test_single_file_holds_its_pictures(page: Any, run_dir: Path, tmp_path: Path) -> None:
    path = write_report(run_dir, single_file=True)
    alone = path.rename(tmp_path / "mail.html")
    page.goto(alone.as_uri() + "#q=porto")
    page.evaluate("document.querySelector('#cards').scrollIntoView({behavior: 'instant'})")
    until(page, "[...document.querySelectorAll('.card img')].some((i) => i.naturalWidth > 0)")
    assert page.evaluate(
        "[...document.querySelectorAll('.card img')].every((i) => i.src.startsWith('data:image/webp;'))"
    )


def test_two_runs_are_laid_side_by_side(page: Any, run_dir: Path) -> None:
    page.goto((run_dir.parent / "index.html").as_uri())
    names = page.locator(".card-run h2").all_inner_texts()
    assert names == ["2026-03-14-a1b2", "2026-03-12-77aa"]
    boxes = page.locator(".pick input").all()
    boxes[0].check()
    assert "Pick another run" in page.locator("#picked").inner_text()
    boxes[1].check()
    page.click("#picked a")
    until(page, "document.querySelector('#compare').getBoundingClientRect().top < innerHeight / 2")
    assert page.locator("#compared thead th").all_inner_texts()[2:4] == names[::-1]
    assert page.locator("#compared tbody tr").count() > 10
    assert set(page.locator("#compared tbody td:nth-of-type(1)").all_inner_texts()) == {"base", "base-fewshot", "tuned"}
    page.click(".card-run h2 a >> nth=0")
    page.wait_for_url("**/2026-03-14-a1b2/index.html")


def test_a_run_writes_the_same_page_twice(run_dir: Path) -> None:
    before = (run_dir / "index.html").read_bytes()
    assert write_report(run_dir).read_bytes() == before


def test_flips_lead_to_their_tasks(page: Any, run_dir: Path) -> None:
    suite = json.loads((run_dir / "summary.json").read_text())["suites"]["html_starter"]
    flips = suite["flips"]["base:tuned"]
    page.goto(address(run_dir))
    page.evaluate("for (const one of document.querySelectorAll('.suite > details')) one.open = true")
    metrics = page.locator("table.flips").first.locator("thead th").all_inner_texts()[2:]
    assert metrics == ["Conforming (Nu)", "Required checks", "BLEU, DOM"]
    place = ("conforming", "checks_must", "bleu_dom")
    for part, table in (("category", 0), ("difficulty", 1)):
        cells = page.locator("table.flips").nth(table).locator("tbody td:not(:nth-child(2))")
        for way, kind in (("better", "gained"), ("worse", "lost")):
            counts = cells.locator(f"a.{way}").evaluate_all(
                "(links) => links.map((a) => parseInt(a.innerText.slice(1)))"
            )
            assert sum(counts) == sum(flips[m][f"by_{part}"][n][kind] for m in place for n in flips[m][f"by_{part}"])
    link = page.locator("table.flips a.better").first
    count = int(link.inner_text().split()[1])
    link.click()
    until(page, "location.hash.includes('category=')")
    assert shown(page) == f"{count} of 60 tasks"


def test_effect_and_detectable_difference_of_the_primary_metrics(page: Any, run_dir: Path) -> None:
    pair = json.loads((run_dir / "summary.json").read_text())["suites"]["html_starter"]["pairs"]["base:tuned"]
    page.goto(address(run_dir))
    page.evaluate("for (const one of document.querySelectorAll('.suite > details')) one.open = true")
    row = page.locator("table.powers tbody tr", has_text="BLEU, DOM").locator("td").all_inner_texts()
    bleu = pair["bleu_dom"]
    assert row == [f"dz {bleu['effect']['value']:.2f}", f"{bleu['detectable']:.1f}", str(bleu["n"])]
    assert axe(page) == []


def test_votes_stand_in_the_report(page: Any, tmp_path: Path) -> None:
    run = make_run(tmp_path / "voted", tasks=12, pictures=False)
    votes = [
        {"suite": "html_starter", "task": row["task"], "left": "base", "right": "tuned", "chosen": "tuned"}
        for row in rows(run)
        if row["model"] == "tuned"
    ]
    votes[0]["chosen"], votes[1]["chosen"] = "base", "tie"
    (run / "votes.jsonl").write_text("".join(json.dumps(vote) + "\n" for vote in votes))
    write_agreement(run)
    page.goto(write_report(run).as_uri())
    said = page.locator("#votes .said").inner_text()
    assert said.startswith("People chose tuned over base in 90.9 % of 11 decided votes (95 % interval")
    assert said.endswith("1 tie, 0 both bad, 1 voter.")
    found = json.loads((run / "agreement.json").read_text())["pairs"]["base:tuned"]["metrics"]["bleu_dom"]
    row = page.locator("#votes tr", has_text="BLEU, DOM").locator("td").all_inner_texts()
    assert row[0] == f"{100 * found['agreement']:.1f}" and row[2:] == [str(found["n"]), str(found["silent"])]
    assert axe(page) == []


def test_pictures_are_those_of_the_phone_until_asked_otherwise(page: Any, run_dir: Path) -> None:
    page.goto(address(run_dir))
    to_gallery(page)
    assert page.locator(".card img").first.get_attribute("alt").endswith("as a phone screenshot")
    page.select_option("#filter-picture", "desktop")
    page.wait_for_selector(".card img[alt$='as a desktop screenshot']")
    page.locator(".card img").first.click()
    page.wait_for_selector("dialog[open] .view.as-desktop img")


def test_desktop_and_phone_stand_beside_each_other_where_asked(page: Any, run_dir: Path) -> None:
    page.goto(address(run_dir, "#picture=both"))
    page.wait_for_selector(".card")
    first = page.locator(".card").first
    pictures = first.locator("img").count()
    assert pictures > 2 and first.locator(".as-phone img").count() == first.locator(".as-desktop img").count()
    assert axe(page) == []
    first.locator(".as-phone img").first.click()
    page.wait_for_selector("dialog[open] .view.as-phone img")


def test_pictures_in_actual_size(page: Any, run_dir: Path) -> None:
    task = next(row["task"] for row in rows(run_dir) if row["model"] == "base" and row["shots"])
    page.goto(address(run_dir, f"#task={task}"))
    picture = 'section.answer[aria-label="base"] .shot img'
    page.wait_for_selector(picture)
    sizes = f"[document.querySelector({picture!r})].map((i) => [i.naturalWidth, i.clientWidth])[0]"
    until(page, f"{sizes}[0] > 0")
    natural, before = page.evaluate(sizes)
    assert before < natural == 640
    page.keyboard.press("z")
    until(page, f"{sizes}[1] === 640")
    assert page.locator("#detail-zoom").get_attribute("aria-pressed") == "true"
    assert "zoom=actual" in page.url and axe(page) == []
    page.keyboard.press("3")
    page.wait_for_selector("dialog .code")
    assert page.locator("#detail-zoom").count() == 0


def test_a_link_with_filters_leads_to_the_gallery(page: Any, run_dir: Path) -> None:
    page.goto(address(run_dir, "#category=forms"))
    until(page, "Math.abs(document.querySelector('#gallery').getBoundingClientRect().top) < innerHeight / 2")
    assert shown(page) == "10 of 60 tasks"


def test_an_evaluated_training_shows_its_task_score_and_which_step_is_measured(page: Any, run_dir: Path) -> None:
    page.goto(address(run_dir))
    making = page.locator("#making")
    assert "weights of step 40 of 60" in (making.locator("p.note").first.text_content() or "")
    assert "(mean of well_formed, bleu_dom, each from 0 to 100) on 2 training rows" in (making.text_content() or "")
    pictures = making.locator("svg desc").all_text_contents()
    assert any("Task score from 40 to 50" in said for said in pictures)
    assert making.locator("svg [stroke-dasharray]").count() == making.locator("svg").count() == 2


def test_several_trainings_stand_under_one_name(page: Any, tmp_path: Path) -> None:
    run = make_run(tmp_path / "seeds", tasks=12, pictures=False, models=("base", "tuned#seed0", "tuned#seed1"))
    page.goto(write_report(run).as_uri())
    heads = page.locator("table.scores thead th").all_inner_texts()
    assert [head.split("\n")[0] for head in heads] == ["Metric", "base", "tuned", "Difference"]
    assert page.locator("#filter-to").input_value() == "tuned#seed0"
    assert page.locator("table.powers small").first.text_content().startswith("by training ")


def test_several_answers_show_pass_at_k(page: Any, tmp_path: Path) -> None:
    run = make_run(tmp_path / "several", tasks=12, pictures=False, models=("base", "tuned", "reference"), samples=4)
    page.goto(write_report(run).as_uri())
    shares = json.loads((run / "summary.json").read_text())["suites"]["html_starter"]["metrics"]["conforming"]
    row = page.locator("table.attempts tr", has_text="Conforming (Nu)").locator("td").all_inner_texts()
    wanted = [f"{100 * shares[model]['pass_at'][k]:.1f}" for model in ("base", "tuned", "reference") for k in "124"]
    assert row == wanted and len(set(wanted)) > 3
    assert axe(page) == []


def test_fonts_are_inside(page: Any, run_dir: Path) -> None:
    page.goto(address(run_dir))
    until(page, "document.fonts.status === 'loaded'")
    assert page.evaluate("[...document.fonts].map((font) => `${font.family} ${font.status}`)") == [
        "Report Sans loaded",
        "Report Serif loaded",
    ]
