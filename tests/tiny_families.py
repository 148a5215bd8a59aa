"""Transformers and DeepFloyd IF of random weights in the real layouts, tokenizers included."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import diffusers
import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    ChromaPipeline,
    ChromaTransformer2DModel,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Pipeline,
    Flux2Transformer2DModel,
    FluxPipeline,
    FluxTransformer2DModel,
    IFPipeline,
    Lumina2Pipeline,
    Lumina2Transformer2DModel,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    SanaPipeline,
    SanaTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    UNet2DConditionModel,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from tokenizers import Tokenizer
from tokenizers.models import Unigram
from tokenizers.pre_tokenizers import ByteLevel, Metaspace
from tokenizers.processors import TemplateProcessing
from transformers import (
    Gemma2Config,
    Gemma2Model,
    GemmaTokenizer,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
    __version__,
)
from transformers import T5TokenizerFast as T5Tokenizer

from conftest import BUNDLED_FOLDER, CLIPTokenizer, random_text

OLDER = __version__.startswith("4.")  # transformers, whose tokenizers are made otherwise there
LETTERS = "abcdefghijklmnopqrstuvwxyz"
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content if m.content is string else m.content[0].text }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def vae(channels: int, shift: float | None) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 8), latent_channels=channels, norm_num_groups=4, layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        scaling_factor=1.5, shift_factor=shift, use_quant_conv=False, use_post_quant_conv=False,
    ).eval()  # fmt: skip


def t5(width: int) -> tuple[T5Tokenizer, T5EncoderModel]:
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -9.0), ("▁", -2.0)]
    pieces += [(letter, -3.0) for letter in LETTERS] + [("▁cat", -1.0), ("▁dog", -1.0), ("▁a", -1.0)]
    config = T5Config(d_model=width, d_kv=8, d_ff=16, num_layers=1, num_heads=2, vocab_size=200)
    return t5_words(pieces), T5EncoderModel(config).eval()


def t5_words(pieces: list[tuple[str, float]]) -> T5Tokenizer:
    if not OLDER:
        return T5Tokenizer(vocab=pieces)
    words = Tokenizer(Unigram(pieces, unk_id=2))
    words.pre_tokenizer = Metaspace()
    words.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return T5Tokenizer(tokenizer_object=words, extra_ids=100)


def qwen_tokenizer(kind: Any = Qwen2Tokenizer, marks: Sequence[str] = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")):
    vocab = {piece: i for i, piece in enumerate([*marks, *sorted(ByteLevel.alphabet())])}
    tokenizer = kind(vocab=vocab, merges=[], additional_special_tokens=list(marks[1:]))
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


def chroma() -> ChromaPipeline:
    net = ChromaTransformer2DModel(
        in_channels=16, num_layers=2, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, axes_dims_rope=(4, 4, 8), approximator_num_channels=16, approximator_hidden_dim=32,
        approximator_layers=1,
    )  # fmt: skip
    tokenizer, encoder = t5(32)
    return ChromaPipeline(
        transformer=net, vae=vae(4, 0.1), text_encoder=encoder, tokenizer=tokenizer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
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
    autoencoder = autoencoder_of_qwen()
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


def gemma(width: int) -> tuple[GemmaTokenizer, Gemma2Model]:
    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "▁", *sorted(ByteLevel.alphabet())]
    config = Gemma2Config(
        vocab_size=300, hidden_size=width, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8,
    )  # fmt: skip
    return GemmaTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}, add_bos_token=True), Gemma2Model(
        config
    ).eval()


def flux_2_parts(layers: int, guidance: bool) -> dict[str, Any]:
    net = Flux2Transformer2DModel(
        in_channels=16, num_layers=2, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=3 * 8, timestep_guidance_channels=16, axes_dims_rope=(4, 4, 4, 4), mlp_ratio=1.0,
        guidance_embeds=guidance,
    )  # fmt: skip
    autoencoder = AutoencoderKLFlux2(
        block_out_channels=(8, 8), latent_channels=4, norm_num_groups=4, layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    ).eval()  # fmt: skip
    autoencoder.bn.running_mean.normal_()
    autoencoder.bn.running_var.uniform_(0.5, 2.0)
    # As many layers as the real one's states are taken of.
    text = {"vocab_size": 300, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": layers,
            "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 8}  # fmt: skip
    return {"transformer": net, "vae": autoencoder, "tokenizer": qwen_tokenizer(), "text": text,
            "scheduler": FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)}  # fmt: skip


def flux_2_klein() -> Flux2KleinPipeline:
    parts = flux_2_parts(27, guidance=False)
    return Flux2KleinPipeline(text_encoder=Qwen3ForCausalLM(Qwen3Config(**parts.pop("text"))).eval(), **parts)


def flux_2_dev() -> Flux2Pipeline:
    """The real one's tokenizer is inside a processor for pictures too, which needs torchvision: see below."""
    parts = flux_2_parts(30, guidance=True)
    vision = {"model_type": "pixtral", "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
              "num_attention_heads": 1, "image_size": 16, "patch_size": 8, "head_dim": 8}  # fmt: skip
    config = Mistral3Config(text_config={"model_type": "mistral", **parts.pop("text")}, vision_config=vision)
    return Flux2Pipeline(text_encoder=Mistral3ForConditionalGeneration(config).eval(), **parts)


def flux_2_dev_with_processor() -> Flux2Pipeline:
    """Padded on the left, and begun by its template, as Mistral's tokenizer is."""
    from transformers import LlamaTokenizer, PixtralImageProcessor, PixtralProcessor

    marks = ["<unk>", "<s>", "</s>", "<pad>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"]
    marks += ["[IMG]", "[IMG_BREAK]", "[IMG_END]"]
    pieces = [*marks, "▁", "\n", *(chr(code) for code in range(33, 127))]
    tokenizer = LlamaTokenizer(
        vocab={piece: i for i, piece in enumerate(pieces)}, merges=[], pad_token="<pad>", add_bos_token=True,
        additional_special_tokens=marks[4:],
    )  # fmt: skip
    template = (
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}[SYSTEM_PROMPT]{{ m.content[0].text }}"
        "[/SYSTEM_PROMPT]{% else %}[INST]{{ m.content[0].text }}[/INST]{% endif %}{% endfor %}"
    )
    pictures = PixtralImageProcessor(size={"longest_edge": 16}, patch_size={"height": 8, "width": 8})
    pipe = make("flux_2_dev")
    pipe.register_modules(tokenizer=PixtralProcessor(pictures, tokenizer, patch_size=8, chat_template=template))
    return pipe


def sana() -> SanaPipeline:
    net = SanaTransformer2DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=8, num_layers=2,
        num_cross_attention_heads=2, cross_attention_head_dim=8, cross_attention_dim=16, caption_channels=16,
        sample_size=32, patch_size=1,
    )  # fmt: skip
    autoencoder = AutoencoderDC(
        latent_channels=4, attention_head_dim=4, encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8),
        encoder_layers_per_block=(1, 1), decoder_layers_per_block=(1, 1), encoder_qkv_multiscales=((), ()),
        decoder_qkv_multiscales=((), ()), scaling_factor=0.41,
    ).eval()  # fmt: skip
    tokenizer, encoder = gemma(16)
    return SanaPipeline(
        transformer=net, vae=autoencoder, text_encoder=encoder, tokenizer=tokenizer,
        scheduler=DPMSolverMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0, beta_start=0.0001, beta_end=0.02
        ),
    )  # fmt: skip


def pixart() -> PixArtSigmaPipeline:
    net = PixArtTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=8, num_layers=2, sample_size=16,
        cross_attention_dim=16, caption_channels=32, use_additional_conditions=False,
    )  # fmt: skip
    tokenizer, encoder = t5(32)
    return PixArtSigmaPipeline(
        transformer=net, vae=vae(4, None), text_encoder=encoder, tokenizer=tokenizer,
        scheduler=DPMSolverMultistepScheduler(beta_start=0.0001, beta_end=0.02),
    )  # fmt: skip


def lumina_2() -> Lumina2Pipeline:
    net = Lumina2Transformer2DModel(
        sample_size=16, in_channels=4, hidden_size=32, num_layers=3, num_refiner_layers=1, num_attention_heads=2,
        num_kv_heads=1, multiple_of=16, axes_dim_rope=(4, 6, 6), axes_lens=(300, 64, 64), cap_feat_dim=16,
    )  # fmt: skip
    tokenizer, encoder = gemma(16)
    return Lumina2Pipeline(
        transformer=net, vae=vae(4, 0.1), text_encoder=encoder, tokenizer=tokenizer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=6.0),
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


def autoencoder_of_qwen() -> AutoencoderKLQwenImage:
    return AutoencoderKLQwenImage(
        base_dim=8, z_dim=4, dim_mult=[1, 1], num_res_blocks=1, temperal_downsample=[False],
        latents_mean=[0.1, -0.1, 0.2, 0.0], latents_std=[1.5, 2.0, 1.0, 1.2],
    ).eval()  # fmt: skip


def krea_2() -> Any:
    from transformers import Qwen3VLConfig, Qwen3VLModel

    net = diffusers.Krea2Transformer2DModel(
        in_channels=16, num_layers=3, attention_head_dim=16, num_attention_heads=2, num_key_value_heads=1,
        intermediate_size=32, timestep_embed_dim=16, text_hidden_dim=16, num_text_layers=2, text_num_attention_heads=2,
        text_num_key_value_heads=2, text_intermediate_size=16, num_layerwise_text_blocks=1, num_refiner_text_blocks=1,
        axes_dims_rope=(4, 6, 6),
    )  # fmt: skip
    text = {
        "vocab_size": 300, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2,
        "num_key_value_heads": 1, "head_dim": 8,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 1, 1]},
    }  # fmt: skip
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "patch_size": 8,
              "out_hidden_size": 16, "num_position_embeddings": 64, "deepstack_visual_indexes": [0]}  # fmt: skip
    encoder = Qwen3VLModel(Qwen3VLConfig(text_config=text, vision_config=vision)).eval()
    return diffusers.Krea2Pipeline(
        transformer=net, vae=autoencoder_of_qwen(), text_encoder=encoder, tokenizer=qwen_tokenizer(),
        text_encoder_select_layers=(1, 3), patch_size=2,
        scheduler=FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15, max_image_seq_len=6400
        ),
    )  # fmt: skip


def ernie_image() -> Any:
    from transformers import Mistral3Model

    parts = flux_2_parts(2, guidance=False)
    net = diffusers.ErnieImageTransformer2DModel(
        hidden_size=32, num_attention_heads=2, num_layers=3, ffn_hidden_size=32, in_channels=16, out_channels=16,
        text_in_dim=8, rope_axes_dim=(4, 6, 6),
    )  # fmt: skip
    vision = {"model_type": "pixtral", "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
              "num_attention_heads": 1, "image_size": 16, "patch_size": 8, "head_dim": 8}  # fmt: skip
    config = Mistral3Config(text_config={"model_type": "mistral", **parts.pop("text")}, vision_config=vision)
    parts |= {"transformer": net, "scheduler": FlowMatchEulerDiscreteScheduler(shift=4.0)}
    return diffusers.ErnieImagePipeline(text_encoder=Mistral3Model(config).eval(), **parts)


class Qwen3VLProcessor(Qwen2Tokenizer):
    """In place of the real one, which reads pictures too, for which it would need torchvision."""

    __module__ = "transformers.models.qwen3_vl.processing_qwen3_vl"
    tokenizer = property(lambda self: self)

    def apply_chat_template(self, *args: Any, **options: Any) -> Any:
        found = super().apply_chat_template(*args, **options)
        return [found] if options.get("tokenize", True) else found


def qwen_processor() -> Qwen3VLProcessor:
    return qwen_tokenizer(Qwen3VLProcessor, marks=["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|image_pad|>"])


def qwen_3_vl(layers: int, width: int) -> Any:
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    text = {
        "vocab_size": 300, "hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": layers,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 1, 1]},
    }  # fmt: skip
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "patch_size": 8,
              "out_hidden_size": width, "num_position_embeddings": 64, "deepstack_visual_indexes": [0]}  # fmt: skip
    return Qwen3VLForConditionalGeneration(Qwen3VLConfig(text_config=text, vision_config=vision)).eval()


def qwen_image_21() -> Any:
    net = diffusers.QwenImage21Transformer2DModel(
        in_channels=4, out_channels=4, num_layers=3, attention_head_dim=16, num_attention_heads=2, context_in_dim=16,
        axes_dims_rope=(4, 6, 6),
    )  # fmt: skip
    autoencoder = diffusers.AutoencoderKLQwenImage21(
        base_dim=8, decoder_base_dim=8, z_dim=4, dim_mult=[1, 1], num_res_blocks=1, temperal_downsample=[False],
        latents_mean=[0.1, -0.1, 0.2, 0.0], latents_std=[1.5, 2.0, 1.0, 1.2], scale_factor_spatial=2,
    ).eval()  # fmt: skip
    encoder = qwen_3_vl(2, 16)
    # A norm that does nothing would not tell whether states are taken before it.
    torch.nn.init.uniform_(encoder.model.language_model.norm.weight, 0.2, 2.0)
    pipe = diffusers.QwenImage21Pipeline(
        transformer=net, vae=autoencoder, text_encoder=encoder, processor=qwen_processor(),
        scheduler=FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True, base_shift=0.5, max_shift=0.9, max_image_seq_len=8192
        ),
    )  # fmt: skip
    pipe.vae_scale_factor = 2  # it knows its own autoencoder's alone
    return pipe


def modular(blocks: Any, **parts: Any) -> Any:
    pipe = blocks.init_pipeline()
    pipe.update_components(**parts)
    save = pipe.save_pretrained
    # It takes no Path, and asks whether its index shall name the folder.
    pipe.save_pretrained = lambda folder: save(str(folder), overwrite_modular_index=True)
    return pipe


def anima() -> Any:
    from diffusers.models.transformers import transformer_cosmos

    if not hasattr(transformer_cosmos, "transforms"):  # without torchvision
        resize = SimpleNamespace(resize=lambda mask, size, interpolation: torch.nn.functional.interpolate(mask, size))
        transformer_cosmos.transforms = SimpleNamespace(  # pyright: ignore[reportAttributeAccessIssue]
            functional=resize, InterpolationMode=SimpleNamespace(NEAREST="nearest")
        )
    net = diffusers.CosmosTransformer3DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=18, num_layers=3, text_embed_dim=16,
        adaln_lora_dim=8, mlp_ratio=1.0, max_size=(4, 64, 64), rope_scale=(1.0, 1.0, 1.0), extra_pos_embed_type=None,
    )  # fmt: skip
    conditioner = diffusers.AnimaTextConditioner(
        source_dim=16, target_dim=16, model_dim=16, num_layers=1, num_attention_heads=2, target_vocab_size=200,
        min_sequence_length=64,
    ).eval()  # fmt: skip
    config = Qwen3Config(
        vocab_size=300, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, head_dim=8,
    )  # fmt: skip
    return modular(
        diffusers.AnimaAutoBlocks(), transformer=net, vae=autoencoder_of_qwen(), text_conditioner=conditioner,
        text_encoder=Qwen3Model(config).eval(), tokenizer=qwen_tokenizer(), t5_tokenizer=t5(16)[0],
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )  # fmt: skip


def flux_3(distilled: bool = False) -> Any:
    net = diffusers.Flux3Transformer2DModel(
        in_channels=16, cond_in_channels=16, num_layers=1, num_single_layers=3, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=8 * 8, timestep_channels=16, mlp_ratio=1.0,
        axes_dims_rope=(4, 4, 4, 4), flow_map=distilled,
    )  # fmt: skip
    blocks = diffusers.Flux3DistilledAutoBlocks() if distilled else diffusers.Flux3AutoBlocks()
    blocks.sub_blocks.pop("prompt_upsampler")  # a language model that writes prompts out
    return modular(
        blocks, transformer=net, vae=flux_2_parts(1, guidance=False)["vae"],
        text_encoder=qwen_3_vl(33, 8), tokenizer=qwen_processor(),
    )  # fmt: skip


MAKE = {
    "deepfloyd_if": deepfloyd_if, "sd3": sd3, "flux": flux, "chroma": chroma, "z_image": z_image,
    "qwen_image": qwen_image, "flux_2_klein": flux_2_klein, "flux_2_dev": flux_2_dev, "sana": sana, "pixart": pixart,
    "lumina_2": lumina_2,
}  # fmt: skip
# Older versions of diffusers know less.
NEWER = {
    "krea_2": (krea_2, "Krea2Pipeline"), "ernie_image": (ernie_image, "ErnieImagePipeline"),
    "qwen_image_21": (qwen_image_21, "QwenImage21Pipeline"), "anima": (anima, "AnimaAutoBlocks"),
    "flux_3": (flux_3, "Flux3AutoBlocks"),
}  # fmt: skip
MAKE |= {name: made for name, (made, pipeline) in NEWER.items() if hasattr(diffusers, pipeline)}


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
