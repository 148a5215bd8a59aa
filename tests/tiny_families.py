"""Flow transformers and DeepFloyd IF of random weights in the real layouts, tokenizers included."""

from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLQwenImage,
    DDPMScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    IFPipeline,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    UNet2DConditionModel,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from conftest import BUNDLED_FOLDER, CLIPTokenizer, random_text

LETTERS = "abcdefghijklmnopqrstuvwxyz"
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)


def vae(channels: int, shift: float) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 8), latent_channels=channels, norm_num_groups=4, layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        scaling_factor=1.5, shift_factor=shift, use_quant_conv=False, use_post_quant_conv=False,
    ).eval()  # fmt: skip


def t5(width: int) -> tuple[T5Tokenizer, T5EncoderModel]:
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -9.0), ("▁", -2.0)]
    pieces += [(letter, -3.0) for letter in LETTERS] + [("▁cat", -1.0), ("▁dog", -1.0), ("▁a", -1.0)]
    config = T5Config(d_model=width, d_kv=8, d_ff=16, num_layers=1, num_heads=2, vocab_size=200)
    return T5Tokenizer(vocab=pieces), T5EncoderModel(config).eval()


def qwen_tokenizer() -> Qwen2Tokenizer:
    marks = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    vocab = {piece: i for i, piece in enumerate([*marks, *sorted(ByteLevel.alphabet())])}
    tokenizer = Qwen2Tokenizer(vocab=vocab, merges=[], additional_special_tokens=marks[1:])
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def sd3() -> StableDiffusion3Pipeline:
    net = SD3Transformer2DModel(
        sample_size=16, patch_size=2, in_channels=4, num_layers=3, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=32, caption_projection_dim=16, pooled_projection_dim=32, out_channels=4,
        pos_embed_max_size=16, dual_attention_layers=(0, 1), qk_norm="rms_norm",
    )  # fmt: skip
    clip = CLIPTokenizer.from_pretrained(BUNDLED_FOLDER / "tokenizer")
    tokenizer, encoder = t5(32)
    return StableDiffusion3Pipeline(
        transformer=net, scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0), vae=vae(4, 0.06),
        text_encoder=random_text(projection=True), tokenizer=clip, text_encoder_2=random_text(projection=True),
        tokenizer_2=clip, text_encoder_3=encoder, tokenizer_3=tokenizer,
    )  # fmt: skip


def flux() -> FluxPipeline:
    net = FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=2, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, pooled_projection_dim=16, guidance_embeds=True, axes_dims_rope=(4, 4, 8),
    )  # fmt: skip
    tokenizer, encoder = t5(32)
    return FluxPipeline(
        transformer=net, vae=vae(4, 0.1), text_encoder=random_text(), text_encoder_2=encoder, tokenizer_2=tokenizer,
        tokenizer=CLIPTokenizer.from_pretrained(BUNDLED_FOLDER / "tokenizer"),
        scheduler=FlowMatchEulerDiscreteScheduler(
            shift=3.0, use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15, max_image_seq_len=4096
        ),
    )  # fmt: skip


def z_image() -> ZImagePipeline:
    net = ZImageTransformer2DModel(
        all_patch_size=(2,), all_f_patch_size=(1,), in_channels=4, dim=32, n_layers=3, n_refiner_layers=1, n_heads=2,
        n_kv_heads=2, cap_feat_dim=16, axes_dims=[4, 4, 8], axes_lens=[256, 64, 64],
    )  # fmt: skip
    with torch.no_grad():  # they are made empty, and trained
        net.x_pad_token.normal_()
        net.cap_pad_token.normal_()
    config = Qwen3Config(
        vocab_size=300, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, head_dim=8,
    )  # fmt: skip
    return ZImagePipeline(
        transformer=net, vae=vae(4, 0.1), text_encoder=Qwen3Model(config).eval(), tokenizer=qwen_tokenizer(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=6.0),
    )  # fmt: skip


def qwen_image() -> QwenImagePipeline:
    net = QwenImageTransformer2DModel(
        patch_size=2, in_channels=16, out_channels=4, num_layers=2, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=16, axes_dims_rope=(8, 4, 4),
    )  # fmt: skip
    autoencoder = AutoencoderKLQwenImage(
        base_dim=8, z_dim=4, dim_mult=[1, 1], num_res_blocks=1, temperal_downsample=[False],
        latents_mean=[0.1, -0.1, 0.2, 0.0], latents_std=[1.5, 2.0, 1.0, 1.2],
    ).eval()  # fmt: skip
    text = {
        "vocab_size": 300, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
        "num_key_value_heads": 2, "rope_scaling": {"type": "default", "mrope_section": [1, 1, 2]},
    }  # fmt: skip
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16,
              "fullatt_block_indexes": [0]}  # fmt: skip
    encoder = Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=vision)).eval()
    return QwenImagePipeline(
        transformer=net, vae=autoencoder, text_encoder=encoder, tokenizer=qwen_tokenizer(),
        scheduler=FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True, base_shift=0.5, max_shift=0.9, max_image_seq_len=8192, shift_terminal=0.02
        ),
    )  # fmt: skip


def deepfloyd_if() -> IFPipeline:
    net = UNet2DConditionModel(
        sample_size=32, layers_per_block=1, block_out_channels=(8, 16, 16), in_channels=3, out_channels=6,
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn", norm_num_groups=4,
        up_block_types=("SimpleCrossAttnUpBlock2D", "SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        cross_attention_dim=32, encoder_hid_dim=32, attention_head_dim=8, addition_embed_type="text",
        addition_embed_type_num_heads=2, cross_attention_norm="group_norm", resnet_time_scale_shift="scale_shift",
        act_fn="gelu",
    )  # fmt: skip
    tokenizer, encoder = t5(32)
    return IFPipeline(
        unet=net.eval(), tokenizer=tokenizer, text_encoder=encoder, safety_checker=None, feature_extractor=None,
        watermarker=None, requires_safety_checker=False,
        scheduler=DDPMScheduler(beta_schedule="squaredcos_cap_v2", variance_type="learned_range", thresholding=True),
    )  # fmt: skip


MAKE = {"deepfloyd_if": deepfloyd_if, "sd3": sd3, "flux": flux, "z_image": z_image, "qwen_image": qwen_image}


def make(name: str) -> Any:
    torch.manual_seed(0)
    pipe = MAKE[name]()
    net = pipe.components.get("transformer") or pipe.unet
    net.eval()
    for p in net.parameters():  # layers that begin at zero would hide what they are given
        if p.abs().max() == 0:
            torch.nn.init.normal_(p, std=0.1)
    pipe.set_progress_bar_config(disable=True)
    return pipe
