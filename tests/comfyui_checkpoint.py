"""A checkpoint of random weights in ComfyUI's own single-file format, run by its own Python in its own folder:

    python comfyui_checkpoint.py OUT.safetensors

It is found to be a Stable Diffusion 1.5 of three levels with one block each, and attention to text at a quarter of the
latents. Its decoder is narrow, so that previews cost little.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path.cwd()))
sys.argv, out = [sys.argv[0], "--cpu"], sys.argv[1]

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()

import comfy.ops  # noqa: E402
import torch  # noqa: E402
from comfy.clip_model import CLIPTextModel  # noqa: E402
from comfy.ldm.models.autoencoder import AutoencoderKL  # noqa: E402
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

unet = UNetModel(
    image_size=32, in_channels=4, model_channels=320, out_channels=4, num_res_blocks=[1, 1, 1], channel_mult=[1, 1, 1],
    transformer_depth=[0, 0, 1], transformer_depth_output=[0, 0, 0, 0, 1, 1], transformer_depth_middle=1, num_heads=8,
    context_dim=768, use_spatial_transformer=True, use_linear_in_transformer=False, legacy=False,
    operations=comfy.ops.disable_weight_init,
)  # fmt: skip
kl = {"double_z": True, "z_channels": 4, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": 128,
      "ch_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_resolutions": [], "dropout": 0.0}  # fmt: skip
vae = AutoencoderKL(ddconfig=kl, embed_dim=4, decoder_ddconfig={**kl, "ch": 32})
config = json.loads(Path("comfy/sd1_clip_config.json").read_text())
text = CLIPTextModel(config, torch.float16, "cpu", comfy.ops.disable_weight_init)

torch.manual_seed(0)
weights: dict[str, torch.Tensor] = {}
for prefix, net in (
    ("model.diffusion_model.", unet), ("first_stage_model.", vae),
    ("cond_stage_model.transformer.text_model.", text.text_model),
):  # fmt: skip
    for name, value in net.state_dict().items():
        if value.ndim < 2:  # norms and biases
            drawn = torch.ones(value.shape) if name.endswith("weight") else torch.zeros(value.shape)
        else:
            drawn = torch.randn(value.shape) / value[0].numel() ** 0.5
        weights[prefix + name] = drawn.half()
save_file(weights, out)
