"""The benchmark on scenes: a suite that does not move, scores worked out by hand, runs that resume, rivals that run."""

import dataclasses
import json
import re
import subprocess
import sys
from hashlib import sha256
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ledits import cli, scenes
from ledits.asked.recipe import Edit
from ledits.backbones import load
from ledits.files.atomic import alone
from ledits.language import words as english
from ledits.scenes import ACCESSORIES, Placed, Scene, suits
from ledits.scenes.samples import SIDE
from ledits.scenes.style import STYLES
from ledits_bench import attention_control, methods, run, stats, trips
from ledits_bench.asked import COLUMNS, WORDINGS, Asked, asked
from ledits_bench.cases import HELD_OUT, KINDS, PLAIN, QUICK, SIZES, Case, kinds_of, suite
from ledits_bench.methods import METHODS, running_on
from ledits_bench.report import read, write
from ledits_bench.score import eye, iou, psnr, score, ssim, worst
from ledits_bench.settings import Settings, chosen, tuned_on

DEVELOPMENT = suite()
WORLD = suits.world("scenes")
ABOUT = {"split": "development", "seed": None, "tuned": {}}
CAT = Scene((Placed("cat", 32, 32, 36),), "beach", 3)
STILL = Case("", "swap", 0, 1, CAT, (Edit("swap", old="cat", new="cat"),), CAT, "")  # nothing is to change
SCENE = Scene((Placed("cat", 18, 32, 26), Placed("star", 46, 32, 26)), "beach", 7)


def encoded(backbone, told: list[Asked]) -> torch.Tensor:
    pictures = np.stack([each.case.source.render(SIDE) for each in told])
    return backbone.encode(torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1)


def plainly(*cases: Case) -> list[Asked]:
    """The cases as typed, with plain lists as captions."""
    return [asked(dataclasses.replace(case, number=0), "typed", WORLD) for case in cases]


def hashed(cases: list[Case], *parts: str) -> str:
    return sha256(repr([tuple(getattr(case, part) for part in parts) for case in cases]).encode()).hexdigest()[:16]


def test_the_suite_does_not_move():
    """Whoever changes a case must raise VERSION, and then this."""
    whole = ("id", "kind", "seed", "source", "twin", "held_out", "edits")
    assert hashed(DEVELOPMENT, *whole) == "17fe2f8b0bf33943"
    assert hashed(suite("tuning"), *whole) == "e36245285d75c824"


def test_scenes_of_the_first_two_versions_are_still_those():
    """So that figures of their kinds may be compared, though other words are told of them."""
    scene = ("id", "kind", "seed", "source", "twin", "held_out")
    assert [hashed(suite(split), *scene) for split in ("development", "tuning")] == [
        "c07d7a292a206d99", "f8bbf7dd22aba8d2"
    ]  # fmt: skip
    assert [hashed(suite(split, kinds=PLAIN), *scene) for split in ("development", "tuning")] == [
        "2492ef3ffa384373", "a752a203c959960b"
    ]  # fmt: skip


def test_an_exam_is_of_its_seed_alone():
    first, again, other = suite("exam", 33, seed=1), suite("exam", 22, seed=1), suite("exam", 33, seed=2)
    assert first[:22] == again
    assert not {(case.source, case.twin) for case in first} & {(case.source, case.twin) for case in other}
    assert not {case.source for case in first} & {case.source for case in DEVELOPMENT + suite("tuning")}
    assert {case.kind for case in first} == set(KINDS)
    for split, seed in (("exam", None), ("development", 1)):
        with pytest.raises(ValueError, match="the exam has one"):
            suite(split, 3, seed=seed)


def test_columns_are_never_mixed():
    """As typed no case is told its target, and nobody sets a share, a scale or a step by hand."""
    for case in DEVELOPMENT[:220]:
        typed, target, alone = (asked(case, column, WORLD) for column in COLUMNS)
        assert all(
            edit == Edit(edit.kind, edit.old, edit.new) for each in (typed, target, alone) for edit in each.edits
        )
        assert target.source == case.source.caption()
        assert [str(edit) for edit in target.edits] == [f"->{case.target()}"]
        assert alone.source == ""
        assert alone.edits == case.edits
        assert all(edit.kind != "become" and case.target() not in str(edit) for edit in typed.edits)
        assert typed.source
        assert not typed.refused(WORLD) or typed.wording != "list"


def test_a_person_names_things_as_the_caption_does_and_in_words_that_the_model_knows():
    wordings = set()
    for case in DEVELOPMENT[:220]:
        told = asked(case, "typed", WORLD)
        wordings.add(told.wording)
        given = english.split(told.source)
        assert all(word.key in WORLD.words for word in given if word.key.isalpha())
        for edit in told.edits:
            assert not edit.old or len(english.find(given, english.split(edit.old))) == 1
    assert wordings == set(WORDINGS)
    small = dataclasses.replace(WORLD, words=tuple({"a", "cat"}))
    assert all(asked(case, "typed", small).wording == "list" for case in DEVELOPMENT[:44])


def test_what_the_editor_refuses_is_a_failure_and_no_error(bundled, tmp_path, monkeypatch):
    case = dataclasses.replace(DEVELOPMENT[3], number=0)
    monkeypatch.setattr(Asked, "refused", lambda *_: "say it otherwise")
    list(run.perform(bundled, tmp_path, run.plan([case], ["ours"], ("typed",), WORLD), "c", ABOUT))
    (row,) = [row for row in run.results(tmp_path) if row["method"] == "ours"]
    assert (row["success"], row["refused"], row["error"], row["worth"]) == (False, "say it otherwise", None, 0)
    text = write(tmp_path)[0].read_text()
    assert "| ours | 1 | 1 | 0.0 (0.0 to 0.0) |" in text
    assert "## Refused, as typed" in text


def test_the_splits_are_disjoint_and_large_enough():
    tuning = suite("tuning")
    assert len(DEVELOPMENT) == len(KINDS) * SIZES["development"] == 880
    assert len({case.id for case in DEVELOPMENT + tuning}) == len(DEVELOPMENT) + len(tuning)
    assert not {(case.source, case.twin) for case in DEVELOPMENT} & {(case.source, case.twin) for case in tuning}
    assert not {case.seed for case in DEVELOPMENT} & {case.seed for case in tuning}


def test_every_kind_is_in_the_quick_suite_and_has_pairs_held_out():
    for kind in KINDS:
        assert sum(case.kind == kind for case in suite(count=QUICK * len(KINDS))) == QUICK
        assert {case.held_out for case in DEVELOPMENT if case.kind == kind} == set(HELD_OUT)
    with pytest.raises(ValueError, match="1 to 560"):
        suite(count=561, kinds=PLAIN)


def test_a_model_is_asked_for_what_it_has_words_for(bundled):
    assert kinds_of(bundled.prompts) == KINDS
    spelt = SimpleNamespace(embed=lambda _: SimpleNamespace(words=torch.tensor([False, True, True])))
    assert kinds_of(spelt) == PLAIN


@pytest.mark.parametrize("kind", KINDS[len(PLAIN) :])
def test_edits_of_accessories_and_styles_say_what_they_ask_for(kind):
    for case in [case for case in DEVELOPMENT if case.kind == kind][:12]:
        assert case.wanted() == case.gone() == []
        assert [p.name for p in case.kept()] == [p.name for p in case.source.objects]
        assert len(case.dressed()) == (kind != "style")
        assert case.twin.caption() == case.target()
        words = " ".join(str(edit) for edit in case.edits)
        for name in (*ACCESSORIES, *STYLES):
            if (name in case.twin.caption()) != (name in case.source.caption()):
                assert name in words


@pytest.mark.parametrize("side", [64, 128])
def test_an_accessory_on_the_wrong_animal_and_a_lost_animal_are_seen(side):
    source = Scene((scenes.room(Placed("cat", 16, 40, 28)), scenes.room(Placed("dog", 48, 40, 28))), "beach", 7)
    case = Case("", "accessory add", 0, 0, source, (Edit("add", new="bow"),), source.wear(0, "bow"), "")
    picture = source.wear(1, "bow").render(side)
    assert score(case, picture, picture, None).met == {"cat wearing a bow": False}
    fox = source.wear(0, "bow").swap(0, "fox").render(side)
    assert score(case, fox, fox, None).kept is False
    best = score(case, case.twin.render(side), case.twin.render(side), case.mask(side))
    assert (best.success, best.kept, best.twin_rms, best.iou) == (True, True, 0, 1)


def test_a_style_counts_only_if_the_objects_are_still_there():
    case = Case("", "style", 0, 0, SCENE, (Edit("add", new="pencil sketch"),), SCENE.draw("pencil sketch"), "")
    lost = SCENE.swap(1, "car").draw("pencil sketch").render(128)
    found = score(case, lost, lost, None)
    assert found.success
    assert found.kept is False
    gray = SCENE.draw("black and white photo").render(128)
    assert score(case, gray, gray, None).met == {"pencil sketch": False}


@pytest.mark.parametrize("kind", KINDS)
def test_the_twin_succeeds_and_no_edit_fails(kind):
    for case in [case for case in DEVELOPMENT if case.kind == kind][:2]:
        source, twin = case.source.render(), case.twin.render()
        best, floor = score(case, twin, source, case.mask()), score(case, source, source, ~case.mask())
        assert best.success
        assert best.kept is not False
        assert best.twin_rms == 0
        assert best.worst_source in (0, None)
        assert not floor.success
        assert floor.worth == 0
        assert not any(floor.met.values())
        for scene in (case.source, case.twin):
            right, of = eye(scene)
            assert right == of > len(scene.objects)


def test_a_lost_bystander_and_a_shapeless_rest_are_seen():
    case = Case("", "remove", 0, 0, SCENE, (), SCENE.remove(0), "")
    empty = SCENE.remove(1).remove(0).render()
    assert score(case, empty, empty, None).kept is False
    assert score(case, empty, empty, None).worth == 0
    blob = np.where(case.mask()[..., None], (case.twin.render() * 1.0 + 255) / 2, case.twin.render()).astype(np.uint8)
    blob[case.mask()] = np.where(np.indices((64, 64)).sum(0)[case.mask()] % 2, 0, 255)[:, None]
    assert score(case, blob, empty, None).met == {"no cat": False}


def test_an_addition_may_lie_anywhere_in_its_half():
    case = Case("", "add", 0, 0, SCENE.remove(1), (), SCENE, "")
    elsewhere = SCENE.remove(1).add(Placed("star", 48, 16, 24)).render()
    behind = SCENE.remove(1).add(Placed("star", 18, 32, 24)).render()
    assert score(case, elsewhere, elsewhere, None).success
    assert not score(case, behind, behind, None).success


def test_measures_by_hand():
    a, b = np.full((8, 8, 3), 100, np.uint8), np.full((8, 8, 3), 110, np.uint8)
    everywhere, left = np.ones((8, 8), bool), np.arange(8) * np.ones((8, 1)) < 4
    assert psnr(a, b, everywhere) == pytest.approx(10 * np.log10(255**2 / 100))
    assert psnr(a, a, everywhere) == pytest.approx(10 * np.log10(255**2 / 1e-4))
    c1 = (0.01 * 255) ** 2  # flat pictures differ in their means alone
    assert ssim(a, b, everywhere) == pytest.approx((2 * 100 * 110 + c1) / (100**2 + 110**2 + c1))
    assert ssim(a, np.where(left[..., None], b, a), ~left) == 1  # what differs elsewhere does not count
    assert worst(a, b, left) == 10
    assert iou(left, everywhere) == 0.5
    assert iou(~everywhere, ~everywhere) == 1


def test_the_curve_by_hand():
    """One setting reaches 100 % at 20 dB, one 50 % at 30 dB: 5/20 of the range at 1 and 10/20 at 0.5, ends included."""
    found = stats.curve(np.array([[1.0, 1.0], [1.0, 0.0]]), np.array([[20.0, np.nan], [30.0, 30.0]]))
    assert found.area.mean == pytest.approx((21 * 1 + 40 * 0.5) / 81)
    assert found.points == [(20.0, 1.0), (30.0, 0.5)]
    assert stats.interval([None, 2.0, 2.0]) == (2, 2, 2, 2)
    assert stats.interval([None]) is None


def tuning_rows(method: str, worth: dict[int, float], cases=("a", "b"), error: str | None = None) -> list[run.Row]:
    """Rows of every setting, of the numbered ones with this worth."""
    return [
        {"method": method, "case": case, "settings": settings.to_json(), "worth": worth.get(k, 0.0), "success": True,
         "error": error}
        for k, settings in enumerate(METHODS[method].grid) for case in cases
    ]  # fmt: skip


def test_tuning_picks_the_setting_of_the_highest_worth():
    found, waiting = run.tuned(tuning_rows("ours", {3: 0.5, 7: 0.9}), ["ours"], {"a", "b"})
    assert not waiting
    assert found["ours"] == {
        "settings": METHODS["ours"].grid[7].to_json(), "success": 1.0, "worth": 0.9, "cases": 2, "tried": 12
    }  # fmt: skip
    broken, _ = run.tuned(tuning_rows("ours", {7: 9.0}, error="broke"), ["ours"], {"a", "b"})
    assert broken["ours"]["worth"] == 0


def test_no_method_is_tuned_on_fewer_cases_or_settings_than_another():
    rows = tuning_rows("ours", {1: 0.5}) + tuning_rows("ddim", {1: 0.5}, cases=("a",)) + tuning_rows("sdedit", {})[:-2]
    found, waiting = run.tuned(rows, ["ours", "ddim", "sdedit", "words"], {"a", "b"})
    assert set(found) == {"ours"}
    assert waiting == ["ddim", "sdedit", "words"]
    for flow in (False, True):
        assert set(tuned_on(flow=flow)) == {name for name in running_on(flow=flow) if not METHODS[name].composite}


def test_all_methods_are_tuned_by_as_many_settings():
    assert {len(method.grid) for method in METHODS.values()} == {12}
    for flow in (False, True):
        names = running_on(flow=flow)
        assert all(chosen(name, flow=flow) in METHODS[name].grid for name in names)


@pytest.fixture
def stub(monkeypatch):
    """A method "ours" that gives back the latents, says which cases it saw, and fails on one if asked to."""
    seen: list[str] = []
    fails: set[str] = set()

    def edit(_backbone, cases, x0, _settings):
        seen.extend(asked.case.id for asked in cases)
        if fails & {asked.case.id for asked in cases}:
            raise RuntimeError("no such cat")
        return methods.Outcome(x0, None, 2 * len(x0))

    monkeypatch.setitem(METHODS, "ours", dataclasses.replace(METHODS["ours"], run=edit, batch=2))
    return seen, fails


@pytest.fixture(scope="module")
def bundled():
    """With diffusers' own layers, for some of the methods put their own attention in."""
    return load(device="cpu", dtype="float32", packed=False)


def test_a_killed_run_goes_on_and_scores_nothing_twice(bundled, stub, tmp_path):
    jobs = run.plan([case for case in DEVELOPMENT if case.kind == "swap"][:4], ["ours"], ("typed",), WORLD)
    steps = run.perform(bundled, tmp_path, jobs, "first", ABOUT)
    for done, _ in steps:
        if done >= 13:  # twelve controls, and the first batch of ours
            steps.close()
    before = run.results(tmp_path)
    with (tmp_path / "results.jsonl").open("a") as file:
        file.write(json.dumps(before[0])[:50])  # killed in the middle of a line
    again = list(run.perform(bundled, tmp_path, jobs, "second", ABOUT))
    rows = run.results(tmp_path)
    assert again[0] == (len(before), 16)
    assert rows[: len(before)] == before
    assert sorted(row["key"] for row in rows) == sorted(job.key for job in jobs)
    assert len(stub[0]) == len(set(stub[0])) == 4
    assert list(run.perform(bundled, tmp_path, jobs, "third", ABOUT)) == [(16, 16)]
    assert json.loads((tmp_path / "run.json").read_text())["commands"] == ["first", "second", "third"]
    with pytest.raises(ValueError, match="another split"):
        next(run.perform(bundled, tmp_path, jobs, "fourth", {**ABOUT, "split": "tuning"}))


def test_an_error_is_a_row_of_its_own_and_exit_code_1(stub, tmp_path, capsys):
    stub[1].add(DEVELOPMENT[1].id)
    with pytest.raises(SystemExit) as end:
        cli.main(["bench", "scenes", "--count", "3", "--methods", "ours", "--out", str(tmp_path)])
    assert end.value.code == 1
    assert "1 of 12 failed" in capsys.readouterr().err
    failed = [row for row in run.results(tmp_path) if row["error"]]
    assert [(row["case"], row["error"]) for row in failed] == [(DEVELOPMENT[1].id, "RuntimeError: no such cat")]
    assert "1 of 12 rows are errors" in (tmp_path / "report.md").read_text()


@pytest.mark.parametrize(
    "words",
    [
        ["--methods", "magic"],
        ["--quick", "--count", "3"],
        ["--count", "0"],
        ["--count", "9999"],
        ["--input", "magic"],
        ["--seed", "3"],
        ["--split", "exam", "--seed", "-1"],
    ],  # fmt: skip
)
def test_bad_options_are_one_sentence(words, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["bench", "scenes", "--out", str(tmp_path / "new"), *words])
    assert end.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_an_exam_says_its_seed_and_goes_on_with_it(stub, tmp_path, capsys):
    said = list[str]()
    for _ in range(2):
        with pytest.raises(SystemExit) as end:
            cli.main(
                ["bench", "scenes", "--split", "exam", "--count", "1", "--methods", "ours", "--out", str(tmp_path)]
            )
        assert end.value.code == 0
        said += re.findall(r"exam of seed (\d+)", capsys.readouterr().err)
    about = json.loads((tmp_path / "run.json").read_text())
    assert said == [str(about["seed"])] * 2
    assert len(about["commands"]) == 1
    assert [row["case"] for row in run.results(tmp_path) if row["method"] == "ours"] == [f"exam-{said[0]}-swap-000"]
    assert f"an exam of seed {said[0]}" in (tmp_path / "report.md").read_text()


def test_a_report_of_no_results_is_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="holds no results.jsonl"):
        write(tmp_path)


def test_the_report_stands_alone_and_draws_curves(bundled, stub, tmp_path):
    cases = suite(count=2)
    list(run.perform(bundled, tmp_path, run.plan(cases, ["ours"], ("typed",), WORLD), "a < b", ABOUT))
    rows = {row["case"]: row for row in run.results(tmp_path) if row["method"] == "ours"}
    with (tmp_path / "results.jsonl").open("a") as file:
        for job in run.sweep(cases, ["ours"], ("typed",), WORLD):
            made = {"key": job.key, "settings": job.settings.to_json(), "chosen": False, "iou": 0.25}
            file.write(json.dumps(rows[job.case.id] | made) + "\n")
    text, page, _ = (path.read_bytes().decode("utf-8", "replace") for path in write(tmp_path))
    assert "a &lt; b" in page
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert page.count("data:image/png") == 3
    assert "| regions of ours | 0.250 (0.250 to 0.250) |" in text
    assert "| ours | 0.000 (0.000 to 0.000) | 18 | 2 |" in text
    assert "| oracle: the twin | 2 | 100.0 (100.0 to 100.0) |" in text
    assert (tmp_path / "curves.png").stat().st_size > 1000


def test_two_models_stand_side_by_side_on_the_cases_that_both_were_given(bundled, stub, tmp_path):
    for name, count in (("one", 2), ("other", 3)):
        list(
            run.perform(
                bundled, tmp_path / name, run.plan(suite(count=count), ["ours"], ("typed",), WORLD), name, ABOUT
            )
        )
        about = json.loads((tmp_path / name / "run.json").read_text())
        (tmp_path / name / "run.json").write_text(json.dumps({**about, "model": name}))
    text = write(tmp_path / "one", tmp_path / "other")[0].read_text()
    assert text.count("## Two models") == 1
    assert "| as typed | ours | one | 2 | " in text
    assert "| as typed | ours | other | 2 | " in text
    assert "## Two models" not in write(tmp_path / "one")[0].read_text()


@pytest.fixture(scope="module")
def flow():
    return load("scenes-flow", device="cpu", dtype="float32")


@pytest.mark.parametrize("name", running_on(flow=True))
def test_each_method_that_needs_no_attention_of_its_own_edits_with_a_flow(flow, name):
    told = plainly(*[case for case in DEVELOPMENT if case.kind == "swap"][:2])
    x0 = encoded(flow, told)
    with torch.inference_mode():
        outcome = METHODS[name].run(flow, told, x0, Settings(steps=4, scale=5.0))
    assert outcome.x.isfinite().all()
    assert (outcome.x - x0).abs().amax((1, 2, 3)).min() > 0.1
    assert outcome.evaluations == 2 * EVALUATIONS[name]


def test_flowedit_moves_nothing_where_the_captions_are_one(flow):
    told = plainly(STILL)
    x0 = encoded(flow, told)
    with torch.inference_mode():
        x = METHODS["flowedit"].run(flow, told, x0, Settings(steps=6, scale=1.0)).x
    assert torch.equal(x, x0)


def test_methods_are_those_of_the_networks_kind(tmp_path, capsys):
    for words in (["--methods", "diffusers", "--model", "scenes-flow"], ["--methods", "flowedit"]):
        with pytest.raises(SystemExit) as end:
            cli.main(["bench", "scenes", "--out", str(tmp_path / "new"), *words])
        assert end.value.code == 2
        assert "those that run on" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", running_on(flow=False))
def test_each_method_edits_and_leaves_the_network_as_it_was(bundled, name):
    told = plainly(*[case for case in DEVELOPMENT if case.kind == "swap"][:2])
    processors = bundled.unet.attn_processors
    with torch.inference_mode():
        outcome = METHODS[name].run(bundled, told, encoded(bundled, told), Settings(steps=4, scale=5.0))
    assert outcome.x.shape == (2, 16, 16, 16)
    assert outcome.x.isfinite().all()
    assert (outcome.x - encoded(bundled, told)).abs().amax((1, 2, 3)).min() > 0.1
    assert outcome.evaluations == 2 * EVALUATIONS[name]
    assert (outcome.acted is None) == (name in ("edit-friendly", "sdedit", "ddim", "prompt-to-prompt"))
    assert all(bundled.unet.attn_processors[key] is value for key, value in processors.items())


# Of a swap in 4 steps, inversion first. By words: 4 and 4 * 3, less the null prediction that the inversion holds
# already; ours: 4, 2 to find the place, and 4 * 2 less one.
EVALUATIONS = {
    "ours": 13, "ours-composite": 13, "words": 15, "diffusers": 16, "diffusers-mended": 16,
    "edit-friendly": 16, "sdedit": 8, "ddim": 12, "prompt-to-prompt": 16, "flowedit": 16,
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "settings", "low", "high"),
    [
        ("ours", Settings(steps=15, scale=0.0), 0, 1e-5),
        ("words", Settings(steps=15, scale=0.0, threshold=0.8), 0, 1e-5),
        ("edit-friendly", Settings(steps=15, scale=3.5), 0, 1e-5),
        ("diffusers-mended", Settings(steps=15, scale=0.0), 0, 1e-3),
        ("diffusers", Settings(steps=15, scale=0.0), 5e-3, 0.5),  # its last step jumps to what the network sees
        ("sdedit", Settings(steps=5, skip=0.98, scale=1.0), 1e-3, 0.3),
        ("ddim", Settings(steps=10, skip=0.5, scale=1.0), 1e-4, 0.3),
        ("prompt-to-prompt", Settings(steps=10, skip=0.5, scale=1.0), 1e-4, 0.3),
    ],
)
def test_each_method_gives_back_a_picture_that_is_asked_to_stay(bundled, name, settings, low, high):
    told = plainly(STILL)
    x0 = encoded(bundled, told)
    with torch.inference_mode():
        x = METHODS[name].run(bundled, told, x0, settings).x
    assert low <= ((x - x0).norm() / x0.norm()).item() <= high


def test_attention_control_of_layers_that_know_none_is_refused():
    """Packed layers would be plain DDIM under its name."""
    packed = load(device="cpu", dtype="float32")
    told = plainly(STILL)
    with torch.inference_mode(), pytest.raises(ValueError, match="packed=False"):
        METHODS["prompt-to-prompt"].run(packed, told, encoded(packed, told), Settings(steps=3, skip=0.5, scale=1.0))


def test_tokens_that_stand_for_each_other():
    assert attention_control.correspondence([1, 5, 6, 2], [1, 5, 7, 2]) == [0, 1, 2, 3]  # a word exchanged
    assert attention_control.correspondence([1, 5, 2, 2], [1, 8, 9, 2, 2]) == [0, -1, -1, 2, 3]  # one for two
    assert attention_control.correspondence([1, 2], [1, 4, 2]) == [0, -1, 1]  # one more


@pytest.mark.parametrize("name", ["attn1", "attn2"])
def test_attention_that_is_taken_over_is_the_sources(bundled, name):
    """Of rows source, null and target, the target attends as the source does to what it has itself."""
    layer = bundled.unet.mid_block.attentions[0].transformer_blocks[0].get_submodule(name)
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(3, 16, layer.to_q.in_features, generator=generator)
    context = torch.randn(3, 32, 128, generator=generator) if name == "attn2" else states
    stands = torch.arange(32)[None].clone()
    control = attention_control._Control(stands, cells=16)

    def attended(query: int, value: int) -> torch.Tensor:
        """Attention of the row `query`, over the values of the row `value`."""
        q, k, v = (
            f(x).unflatten(-1, (layer.heads, -1)).transpose(0, 1)
            for f, x in ((layer.to_q, states[query]), (layer.to_k, context[query]), (layer.to_v, context[value]))
        )
        mixed = (q @ k.mT * layer.scale).softmax(-1) @ v
        return layer.to_out[0](mixed.transpose(0, 1).flatten(1))

    inner = None if name == "attn1" else context
    with torch.inference_mode():
        assert torch.allclose(control(layer, states, inner)[2], attended(2, 2), atol=1e-5)
        control.cross = control.own = True
        out = control(layer, states, inner)
        assert torch.allclose(out[2], attended(0, 2), atol=1e-5)
        assert torch.allclose(out[0], attended(0, 0), atol=1e-5)


def test_backgrounds_are_seen_behind_any_light():
    other = dataclasses.replace(SCENE.move("meadow"), seed=99).render()
    case = Case("", "background", 0, 0, SCENE, (), SCENE.move("meadow"), "")
    found = score(case, other, other, None)
    assert found.success
    assert found.kept


def test_two_runs_do_not_write_to_one_folder(tmp_path):
    with alone(tmp_path, "ledits bench"):
        # Of another process: a lock is a process's own on some systems.
        code = (
            "from pathlib import Path; from ledits.files.atomic import alone\n"
            f"with alone(Path({str(tmp_path)!r}), 'x'): pass"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert "another x writes to" in done.stderr
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_foreign_rows_are_one_sentence(tmp_path):
    for line in ("{}", "[]", "3", '{"key": 1}', "{"):
        (tmp_path / "results.jsonl").write_text(line + "\n")
        with pytest.raises(ValueError, match="line 1, is no row of results"):
            run.results(tmp_path)


def test_the_tables_are_made_again_of_the_rows_alone(bundled, stub, tmp_path):
    list(run.perform(bundled, tmp_path / "run", run.plan(suite(count=4), ["ours"], COLUMNS, WORLD), "ledits x", ABOUT))
    list(trips.perform(bundled, tmp_path / "run", suite(count=2, kinds=("swap",)), ["ours"], 2, "ledits y", ABOUT))
    text = write(tmp_path / "run")[0].read_text()
    assert "    ledits x\n    ledits y" in text
    rows = tmp_path / "run" / "rows.jsonl.gz"
    again = write(rows, out=tmp_path / "again")[0].read_text()
    pictures = re.compile(r"## The (best|worst) cases of ours.*?(?=\n## )", re.DOTALL)
    assert pictures.sub("", text).split() == again.split()
    assert (tmp_path / "again" / "rows.jsonl.gz").read_bytes() == rows.read_bytes()
    assert len(read(rows).rows) == 4 * 3 + 4 * 3
    for broken in (b"", b"no", rows.read_bytes()[:200]):
        (tmp_path / "broken.gz").write_bytes(broken)
        with pytest.raises(ValueError, match="no file of rows"):
            write(tmp_path / "broken.gz")


def test_trips_from_results_add_up_and_from_the_inversion_do_not(bundled, tmp_path, monkeypatch):
    # What adds up does so at few steps as well.
    monkeypatch.setattr(trips, "chosen", lambda *names, **how: dataclasses.replace(chosen(*names, **how), steps=8))
    cases = suite(count=2, kinds=("swap",))
    for _ in range(2):  # the second time nothing is left to do
        list(trips.perform(bundled, tmp_path, cases, ["ours"], 2, "c", ABOUT))
    rows = trips.results(tmp_path)
    assert len(rows) == 2 * 2 * 2
    for case in cases:
        one, two = ({r["trip"]: r for r in rows if r["case"] == case.id and r["way"] == w} for w in ("kept", "anew"))
        assert one[1]["psnr"] == one[2]["psnr"] > two[1]["psnr"] > two[2]["psnr"]
        x0 = encoded(bundled, plainly(case))
        rebuilt, shown = run.decoded(bundled.decode(x0))[0], case.source.render(SIDE)
        assert one[2]["psnr"] == pytest.approx(psnr(rebuilt, shown, np.ones((SIDE, SIDE), bool)), abs=0.1)
    assert "## Round trips" in write(tmp_path)[0].read_text()
