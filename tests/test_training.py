"""The recipe of the bundled models: captions fit the tokenizer, crops show objects, a shortcut of training is exact."""

import copy
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import JointAttnProcessor2_0

from ledits import scenes

sys.path.append(str(Path(__file__).parent.parent / "training"))
import denoiser
import export
import pack
import words
from autoencoder import CROP, batch, build
from networks import ABSENT, Flow, Teacher, UNet
from precision import fastest

from text import TOKENS, deepen, encoder, projected, tokenizer


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    return tokenizer(tmp_path_factory.mktemp("tokenizer"))


def test_every_word_of_a_caption_is_one_token_and_no_caption_is_cut(tokens):
    rng = np.random.default_rng(0)
    texts = [
        text
        for scene in (scenes.dress(rng, scenes.sample(rng)) for _ in range(1500))
        for text in (scene.caption(), scene.captions(rng))
    ]
    assert max(len(ids) for ids in tokens(texts).input_ids) <= TOKENS
    words = sorted({word for text in texts for word in text.replace(",", "").split()})
    assert {len(ids) for ids in tokens(words).input_ids} == {3}
    assert "sunglasses" in words
    # What no caption says is spelt out, not lost.
    assert tokens.decode(tokens("zebra").input_ids, skip_special_tokens=True) == "zebra"


def test_as_many_scenes_as_are_asked_for_have_something_worn():
    rng = np.random.default_rng(0)
    for share in (0.0, 0.5, 1.0):
        drawn = [pack.draw(rng, 1 + i % 3, share) for i in range(200)]
        worn = np.mean([any(placed.wearing for placed in scene.objects) for scene in drawn])
        assert share <= worn + 0.1 <= share + 0.4
        assert [len(scene.objects) for scene in drawn[:3]] == [1, 2, 3]
    assert pack.draw(rng, 0, 1.0).objects == ()


def test_an_absent_text_encoder_is_told_once_and_counts_as_often_as_the_pipeline_tells_it(tokens):
    """Zeros that a pipeline gives in T5's place, 256 of them, against the one that training gives."""
    torch.manual_seed(0)
    flow = Flow(tokens, 4, layers=2, width=64)
    for weight in flow.parts.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    x, sigma = torch.randn(2, 4, 16, 16), torch.tensor([0.3, 0.7])
    ids = tokens(["a cat", "a dog on a beach"], padding="max_length", return_tensors="pt").input_ids
    net = flow.parts["transformer"]
    with torch.no_grad():
        once = flow.predict(x, sigma, ids)
        told = [flow.parts[name](ids, output_hidden_states=True) for name in ("text", "text_2")]
        states = F.pad(torch.cat([one.hidden_states[-2] for one in told], -1), (0, 0, 0, ABSENT))
        pooled = torch.cat([one.text_embeds for one in told], -1)
        for block in net.transformer_blocks:
            block.attn.set_processor(JointAttnProcessor2_0())
        often = net(x, states, pooled, 1000 * sigma).sample
        uncounted = net(x, states[:, : TOKENS + 1], pooled, 1000 * sigma).sample
    assert (once - often).abs().max() < 1e-4 * often.abs().max()
    assert (uncounted - often).abs().max() > 1e-2 * often.abs().max()


@pytest.mark.parametrize("kind", [lambda t: UNet(t, 4, (32, 32)), lambda t: Flow(t, 4, layers=2, width=64)])
def test_every_weight_learns_and_a_step_is_drawn_from_its_number(kind, tokens):
    torch.manual_seed(0)
    denoiser = kind(tokens)
    for weight in denoiser.parts.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    ids = tokens(["a cat", "a dog"], padding="max_length", return_tensors="pt").input_ids
    x0, eps = torch.randn(2, 2, 4, 16, 16)
    losses = [denoiser.loss(x0, eps, ids, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]
    losses[0].backward()
    idle = {name for name, weight in denoiser.parts.named_parameters() if weight.grad is None or not weight.grad.any()}
    # Nobody asks what text makes of the picture in SD3's last block.
    assert idle <= {f"transformer.transformer_blocks.1.attn.{q}.{w}" for q, w in TEXT_QUERIES}


@pytest.mark.parametrize("kind", [lambda t: UNet(t, 4, (32, 32)), lambda t: Flow(t, 4, layers=2, width=64)])
def test_a_teacher_counts_where_it_has_words_and_says_something_else(kind, tokens):
    torch.manual_seed(0)
    denoiser = kind(tokens)
    for weight in denoiser.parts.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    old = copy.deepcopy(denoiser.parts).requires_grad_(False)
    ids, plain = (
        tokens(texts, padding="max_length", return_tensors="pt").input_ids
        for texts in (["a kitten", "two stars"], ["a cat", "a star"])
    )
    x0, eps = torch.randn(2, 2, 4, 16, 16)

    def loss(told: torch.Tensor, known: list[float]) -> torch.Tensor:
        teacher = Teacher(old, told, torch.tensor(known), 1e4)
        return denoiser.loss(x0, eps, ids, np.random.default_rng(1), teacher)

    alone = denoiser.loss(x0, eps, ids, np.random.default_rng(1))
    torch.testing.assert_close(loss(ids, [1.0, 1.0]), alone)
    torch.testing.assert_close(loss(plain, [0.0, 0.0]), alone)
    assert loss(plain, [1.0, 1.0]) > loss(plain, [1.0, 0.0]) > alone


TEXT_QUERIES = [("add_q_proj", "weight"), ("add_q_proj", "bias"), ("norm_added_q", "weight")]


def test_a_training_run_that_was_stopped_goes_on_as_if_it_had_not_been(tokens, tmp_path, monkeypatch):
    def small(tokens, channels):
        torch.manual_seed(0)
        return Flow(tokens, channels, layers=2, width=64)

    monkeypatch.setattr(denoiser, "Flow", small)
    monkeypatch.setattr(denoiser, "fastest", lambda *_: torch.float32)
    monkeypatch.setattr(denoiser, "grid", lambda *_: None)
    vae = build(width=16)
    vae.save_pretrained(tmp_path / "vae")
    tokens.save_pretrained(tmp_path / "tokenizer")
    ids = tokens(["a cat", "a dog"] * 4, padding="max_length", return_tensors="np").input_ids.reshape(4, 2, -1)
    latents = np.random.default_rng(0).normal(size=(4, 16, 16, 16)).astype(np.float16)
    captions = ids.astype(np.int16)
    np.savez(tmp_path / "pack.npz", latents=latents, captions=captions, plain=captions[:, ::-1])

    def train(out: str, *more: str) -> None:
        words = [
            "--pack",
            str(tmp_path),
            "--vae",
            str(tmp_path / "vae"),
            "--out",
            str(tmp_path / out),
            "--kind",
            "flow",
        ]
        monkeypatch.setattr(sys, "argv", ["denoiser.py", *words, "--steps", "4", "--batch", "2", *more])
        denoiser.main()

    train("whole")
    for _ in range(4):
        train("stopped", "--minutes", "0")
    whole, stopped = (torch.load(tmp_path / run / "last.pt", weights_only=True) for run in ("whole", "stopped"))
    assert whole["step"] == stopped["step"] == 4
    for part in ("net", "average"):
        assert all(torch.equal(whole[part][name], stopped[part][name]) for name in whole[part])
    # What was kept in half precision can be gone on from.
    monkeypatch.setattr(
        sys, "argv", ["export.py", "--run", str(tmp_path / "whole/model"), "--to", str(tmp_path / "state")]
    )
    export.main()
    train("again", "--from", str(tmp_path / "state"), "--minutes", "0")
    again = torch.load(tmp_path / "again/last.pt", weights_only=True)["average"]
    assert all((again[name] - whole["average"][name]).abs().max() < 2e-3 for name in again)
    # What was kept can teach what goes on from it.
    train("taught", "--from", str(tmp_path / "state"), "--minutes", "0", "--teacher", str(tmp_path / "state"))
    taught = torch.load(tmp_path / "taught/last.pt", weights_only=True)["average"]
    assert any(not torch.equal(again[name], taught[name]) for name in again)


def test_crops_of_a_step_are_drawn_again_and_about_objects():
    one, two = batch(7, 8, 128), batch(7, 8, 128)
    assert one.shape == (8, 3, CROP, CROP)
    assert torch.equal(one, two)
    assert not torch.equal(one, batch(8, 8, 128))
    busy = torch.cat([batch(step, 8, 128) for step in range(8)]).std((2, 3)).mean(1) > 0.1
    assert busy.float().mean() > 0.6


def test_latents_are_16_by_16_and_cropping_keeps_their_grid():
    vae = build(width=16)
    with torch.no_grad():
        assert vae.encode(torch.zeros(1, 3, 128, 128)).latents.shape == (1, 16, 16, 16)
        assert vae.decode(torch.zeros(1, 16, 16, 16)).sample.shape == (1, 3, 128, 128)


def test_the_faster_number_format_is_taken():
    for slow, fast in ((torch.float32, torch.bfloat16), (torch.bfloat16, torch.float32)):
        assert fastest("cpu", lambda dtype, slow=slow: time.sleep(0.02 * (dtype == slow)), repeats=1) == fast


class SmallUNet(UNet):
    def __init__(self, tokens, channels):
        super().__init__(tokens, channels, (32, 32))


class SmallFlow(Flow):
    def __init__(self, tokens, channels):
        super().__init__(tokens, channels, layers=2, width=64)


@pytest.mark.parametrize(("kind", "small"), [("unet", SmallUNet), ("flow", SmallFlow)])
def test_new_words_are_learnt_by_the_text_encoders_alone(kind, small, tokens, tmp_path, monkeypatch):
    monkeypatch.setattr(words, small.__base__.__name__, small)
    torch.manual_seed(0)
    model = small(tokens, 16)
    for weight in model.parts.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    model.pipeline(model.parts, build(width=16), tokens).save_pretrained(tmp_path / "model")
    tokens.save_pretrained(tmp_path / "tokenizer")
    told, plain = (
        tokens(texts * 2, padding="max_length", return_tensors="np").input_ids.reshape(4, 1, -1).astype(np.int16)
        for texts in (["a kitten", "two stars"], ["a cat", ""])
    )
    latents = np.random.default_rng(0).normal(size=(4, 16, 16, 16)).astype(np.float16)
    np.savez(tmp_path / "pack.npz", latents=latents, captions=told, plain=plain)
    line = ["--kind", kind, "--pack", str(tmp_path), "--from", str(tmp_path / "model"), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["words.py", *line, "--pictures", "4", "--steps", "2", "--batch", "4"])
    words.main()
    files = [path.relative_to(tmp_path / "model") for path in (tmp_path / "model").rglob("*.safetensors")]
    changed = {
        file.parent.name
        for file in files
        if (tmp_path / "model" / file).read_bytes() != (tmp_path / "out" / file).read_bytes()
    }
    assert changed == ({"text_encoder"} if kind == "unet" else {"text_encoder", "text_encoder_2"})


def test_what_two_captions_make_of_a_picture_differs_by_nothing_where_they_are_the_same(tokens):
    torch.manual_seed(0)
    unet, flow = SmallUNet(tokens, 16), SmallFlow(tokens, 16)
    for weight in (*unet.parts.parameters(), *flow.parts.parameters()):
        torch.nn.init.normal_(weight, std=0.1)
    ids = tokens(["a kitten", "a star"], padding="max_length", return_tensors="pt").input_ids
    x0, which = torch.randn(2, 16, 16, 16), torch.tensor([0, 1])
    teachers = {name: copy.deepcopy(flow.parts[name]) for name in ("text", "text_2")}
    for difference in (
        words.by_attention(unet, copy.deepcopy(unet.parts["text"]), x0, ids, 8),
        words.by_prediction(flow, teachers, x0),
    ):
        assert (difference(which, ids, ids) < 1e-6).all()
        assert (difference(which, ids.flip(0), ids) > 1e-3).all()


def test_a_deeper_text_encoder_begins_as_what_it_was(tokens):
    ids = tokens(["a kitten", "a star"], padding="max_length", return_tensors="pt").input_ids
    for part in (encoder(tokens), projected(tokens, 64)):
        before = part(ids, output_hidden_states=True).hidden_states[-2:]
        deepen(part, 5)
        after = part(ids, output_hidden_states=True).hidden_states[-2:]
        assert part.config.num_hidden_layers == 5
        assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))
