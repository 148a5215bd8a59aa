"""Florence-2 and SAM 2 with random weights in their real layouts: captions, phrases and clicks as regions."""

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import CLIPImageProcessorPil, PreTrainedTokenizerFast
from transformers.models.florence2 import Florence2Config, Florence2ForConditionalGeneration, Florence2Processor
from transformers.models.sam2 import Sam2Config, Sam2Model

from ledits import Editor
from ledits.cli import main
from ledits.scenes.samples import draw
from ledits.seeing import florence, sam, weights
from ledits.seeing.assistant import Local
from ledits.testing import ToyBackbone
from serving import decoded, png, saved, served

CPU = torch.device("cpu")
CAT = Image.fromarray(draw("cat"))
WORDS = [
    "<s>",
    "<pad>",
    "</s>",
    "<unk>",
    "Locate",
    "in",
    "the",
    "image",
    "with",
    "mask",
    "a",
    "A",
    "cat",
    "on",
    "meadow.",
]


@pytest.fixture(scope="module")
def florence_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    words = Tokenizer(models.WordLevel({word: k for k, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>",
        extra_special_tokens={"image_token": "<image>"},
    )  # fmt: skip
    tokenizer.add_tokens([f"<loc_{k}>" for k in range(1000)])
    pictures = CLIPImageProcessorPil(size={"height": 64, "width": 64}, do_center_crop=False)
    pictures.image_seq_length = 5
    config = Florence2Config(
        text_config={
            "model_type": "bart", "vocab_size": len(tokenizer), "d_model": 16, "encoder_layers": 1,
            "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 16,
            "decoder_ffn_dim": 16, "max_position_embeddings": 600, "bos_token_id": 0, "pad_token_id": 1,
            "eos_token_id": 2, "decoder_start_token_id": 2, "forced_eos_token_id": 2,
        },
        vision_config={
            "depths": [1] * 4, "embed_dim": [8, 8, 8, 16], "num_heads": [1, 1, 1, 2], "num_groups": [1, 1, 1, 2],
            "window_size": 4, "projection_dim": 16, "max_position_embeddings": 8, "max_temporal_embeddings": 4,
        },
        image_token_id=tokenizer.image_token_id,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("florence")
    Florence2ForConditionalGeneration(config).eval().save_pretrained(folder)
    kinds = {"pure_text": {}, "polygons": {}}
    Florence2Processor(pictures, tokenizer, post_processor_config=kinds).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def sam_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    backbone = {
        "model_type": "sam2_hiera_det_model", "hidden_size": 8, "image_size": [128, 128],
        "blocks_per_stage": [1, 1, 2, 1], "embed_dim_per_stage": [8, 16, 32, 64],
        "num_attention_heads_per_stage": [1, 1, 2, 2], "window_size_per_stage": [4] * 4,
        "global_attention_blocks": [3], "window_positional_embedding_background_size": [4, 4],
    }  # fmt: skip
    config = Sam2Config(
        vision_config={
            "backbone_config": backbone, "backbone_channel_list": [64, 32, 16, 8],
            "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]], "fpn_hidden_size": 32,
        },
        prompt_encoder_config={"hidden_size": 32, "image_size": 128, "patch_size": 16},
        mask_decoder_config={
            "hidden_size": 32, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 16,
        },
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("sam")
    Sam2Model(config).eval().save_pretrained(folder)
    return str(folder)


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch):
    """What Florence-2 answers: random weights have nothing to say."""

    def install(text: str) -> None:
        monkeypatch.setattr(Florence2Processor, "batch_decode", lambda *_, **__: [f"</s><s>{text}</s>"])

    return install


def test_random_weights_go_through(florence_folder: str, sam_folder: str) -> None:
    try:
        assert florence.caption(CAT, CPU, florence_folder).isprintable()
    except ValueError as nothing:
        assert "caption yourself" in str(nothing)  # noqa: PT017  # either is right for a network of noise
    for asked in ({"points": [(64, 70)]}, {"points": [(64, 70), (50, 60)]}, {"box": (30, 30, 60, 60)}):
        region = sam.selected(CAT, CPU, name=sam_folder, **asked)
        assert region.shape == (128, 128)
        assert region.dtype == bool


def test_a_caption_is_a_plain_sentence(says, florence_folder: str) -> None:
    says("A cat on a meadow.")
    assert florence.caption(CAT, CPU, florence_folder) == "a cat on a meadow"
    editor = Editor(ToyBackbone())
    assert editor.caption(CAT, weights=florence_folder) == "a cat on a meadow"


def test_a_phrase_becomes_a_region_that_an_edit_keeps_to(says, florence_folder: str) -> None:
    says("<loc_250><loc_250><loc_750><loc_250><loc_750><loc_750><loc_250><loc_750>")
    editor = Editor(ToyBackbone())
    region = editor.where(CAT, "the left cat", weights=florence_folder)
    assert region[64, 64]
    assert not region[10, 10]
    assert 0.2 < region.mean() < 0.3
    edited = editor.edit(CAT, "cat->dog", region=region.astype(np.float32), composite=True, source="a cat")
    assert (edited.rgb == np.asarray(CAT))[~region].all()
    says("a cat")
    with pytest.raises(ValueError, match="finds no 'the zebra'"):
        editor.where(CAT, "the zebra", weights=florence_folder)


@pytest.mark.parametrize("phrase", ["", "  ", "x" * 500, "a\ncat", "<CAPTION>"])
def test_a_phrase_is_plain_words(phrase: str, florence_folder: str) -> None:
    with pytest.raises(ValueError, match="plain words"):
        florence.where(CAT, phrase, CPU, florence_folder)


def test_a_click_or_a_box_lies_in_the_picture(sam_folder: str) -> None:
    for asked in ({}, {"points": [(1, 1)], "box": (0, 0, 9, 9)}, {"points": [(500, 1)]}, {"box": (500, 0, 9, 9)}):
        with pytest.raises(ValueError, match="selection needs|outside the picture"):
            sam.selected(CAT, CPU, name=sam_folder, **asked)


def test_models_stay_until_memory_is_short(says, florence_folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    says("A cat")
    monkeypatch.setattr(weights, "SHORT", 0)
    florence.caption(CAT, CPU, florence_folder)
    assert weights.kept.cache_info().currsize > 0
    monkeypatch.setattr(weights, "SHORT", 2**60)
    florence.caption(CAT, CPU, florence_folder)
    assert weights.kept.cache_info().currsize == 0


def test_without_the_weights_the_command_that_fetches_them_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for call in (lambda: florence.caption(CAT, CPU), lambda: sam.selected(CAT, CPU, points=[(1, 1)])):
        with pytest.raises(ValueError, match=r"`hf download [\w/.-]+`$"):
            call()


def test_another_kind_of_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "evil", "auto_map": {"AutoModel": "evil.Model"}}))
    with pytest.raises(ValueError, match="no model of the kind florence2"):
        florence.caption(CAT, CPU, str(tmp_path))


@pytest.mark.parametrize("weights_file", [None, b"", b"cut short"], ids=["missing", "empty", "cut short"])
def test_a_download_that_was_cut_short_is_said(weights_file: bytes | None, tmp_path: Path) -> None:
    calls = {
        "florence2": lambda: florence.caption(CAT, CPU, str(tmp_path)),
        "sam2": lambda: sam.selected(CAT, CPU, points=[(1, 1)], name=str(tmp_path)),
        "qwen3_vl": lambda: Local(str(tmp_path), device="cpu").answer(CAT, "make him a pirate"),
    }
    for kind, call in calls.items():
        (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
        if weights_file is not None:
            (tmp_path / "model.safetensors").write_bytes(weights_file)
        with pytest.raises(ValueError, match=r"^the model in [^\n]+ can't be loaded: [^\n]+ fetch it again$"):
            call()


def test_auto_is_no_caption_where_nobody_writes_one() -> None:
    with pytest.raises(ValueError, match=r"Editor\.caption"):
        Editor(ToyBackbone()).edit(CAT, "+hat", source="auto")


def test_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    CAT.save("cat.png")
    for more in (["--source", "auto"], ["--source", "a cat on a meadow", "--where", "the cat"]):
        with pytest.raises(SystemExit) as ended:
            main(["edit", "cat.png", "cat->dog", "-o", "x.png", *more])
        told = capfd.readouterr().err
        assert ended.value.code == 2
        assert "hf download florence-community/Florence-2-base-ft" in told
        assert told.count("\n") == 1


def test_on_the_server(says, florence_folder: str, sam_folder: str, tmp_path: Path) -> None:
    cat, size = saved(CAT), CAT.size
    with served(tmp_path, florence=florence_folder, sam=sam_folder) as server, server.client() as http:
        ask = functools.partial(http.post, "/v1/regions", files={"image": cat})
        assert http.get("/v1/seeing").json() == {"captions": True, "clicks": True}
        says("A cat on a meadow.")
        assert http.post("/v1/captions", files={"image": cat}).json() == {"caption": "a cat on a meadow"}
        says("<loc_0><loc_0><loc_500><loc_0><loc_500><loc_999><loc_0><loc_999>")
        left = ask(data={"phrase": "the left cat"}).json()
        region = decoded(left["region"])
        assert region.shape == size[::-1]
        assert 0.4 < left["share"] < 0.6
        clicks: list[tuple[Any, Any]] = [
            ({"point": ["10,10", "20,20"]}, {"points": [(10, 10), (20, 20)]}),
            ({"box": "4,4,40,40"}, {"box": (4, 4, 40, 40)}),
        ]
        for data, asked in clicks:
            answer = ask(data=data).json()
            try:  # random weights may find nothing
                mask = sam.selected(CAT, CPU, name=sam_folder, **asked)
            except ValueError as error:
                mask = None
                assert answer["error"]["message"] == str(error)  # noqa: PT017
            if mask is not None:
                assert np.array_equal(decoded(answer["region"]) > 0, mask)
        # What comes back is a region that an edit takes.
        made = http.post("/v1/inversions", files={"image": cat}).json()["id"]
        edit = {"edits": ["+hat"], "region": left["region"], "composite": True}
        edited = decoded(http.post(f"/v1/inversions/{made}/edits", json=edit).json()["image"])
        assert np.array_equal(edited[region == 0], np.asarray(CAT)[region == 0])
        refused = [ask(data=data) for data in (
            {}, {"phrase": "a", "box": "1,2,3,4"}, {"point": "9000,1"}, {"box": "1,2"}, {"phrase": "<OCR>"},
            {"where": "a"}, {"point": ["1,1"] * 17},
        )]  # fmt: skip
        said = ["phrase, points or one box", "phrase, points or one box", "outside", "write box=40,60,200,160",
                "a few plain words", "where is not a field", "16 are enough"]  # fmt: skip
        for answer, part in zip(refused, said, strict=True):
            assert (answer.status_code, part in answer.json()["error"]["message"]) == (400, True), answer.text
    weights.free_all()


def test_a_server_without_the_weights_says_how_to_fetch_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with served(tmp_path) as server, server.client() as http:
        assert http.get("/v1/seeing").json() == {"captions": False, "clicks": False}
        answers = [
            http.post("/v1/captions", files={"image": png(1)}),
            http.post("/v1/regions", files={"image": png(1)}, data={"point": "1,1"}),
        ]
    assert [answer.status_code for answer in answers] == [501, 501]
    assert "hf download florence-community/Florence-2-base-ft" in answers[0].text
    assert "hf download facebook/sam2.1-hiera-tiny" in answers[1].text
