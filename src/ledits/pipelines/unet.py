"""What the pipelines of Stable Diffusion and SDXL share beside what all do: their UNets, schedulers and adapters."""

import logging
from typing import Any

from diffusers.loaders.ip_adapter import IPAdapterMixin
from diffusers.loaders.single_file import FromSingleFileMixin
from diffusers.loaders.textual_inversion import TextualInversionLoaderMixin
from diffusers.pipelines.pipeline_utils import StableDiffusionMixin
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler

from ledits.backbones.latent_unet import LatentUNet, UNetPrompts, check_scheduler
from ledits.backbones.network import NetworkBackbone
from ledits.backbones.schedule import from_scheduler
from ledits.method.core import Schedule
from ledits.pipelines import adapters
from ledits.pipelines.outputs import Conditioning
from ledits.pipelines.shared import LEditsPP, Timesteps

logger = logging.getLogger(__name__)


class LEditsPPUNet(LEditsPP, StableDiffusionMixin, TextualInversionLoaderMixin, IPAdapterMixin, FromSingleFileMixin):
    """A UNet on latents; each pipeline says which text encoders it has."""

    unet: Any
    vae: Any
    text_encoder: Any
    tokenizer: Any
    image_encoder: Any = None
    feature_extractor: Any = None

    def _set_up(self, scheduler: Any) -> Any:
        """The scheduler to use: the user's own, or DPM-Solver++ with noise in place of one that can't invert."""
        check_scheduler(scheduler.config, type(self).__name__)
        if isinstance(scheduler, DDIMScheduler | DPMSolverMultistepScheduler):
            return scheduler
        logger.warning("%s can't invert: DPMSolverMultistepScheduler takes its place", type(scheduler).__name__)
        return DPMSolverMultistepScheduler.from_config(
            scheduler.config, algorithm_type="sde-dpmsolver++", solver_order=2
        )

    @property
    def vae_scale_factor(self) -> int:
        """The picture's side over the latents'."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    def _text_encoders(self, conditioning: Conditioning) -> UNetPrompts:
        raise NotImplementedError

    def _backbone(self, conditioning: Conditioning) -> LatentUNet:
        return LatentUNet(
            self.unet, self.vae, self._text_encoders(conditioning), self.scheduler.config, name=type(self).__name__,
            fingerprint="", settings={"map_scale": self.config["map_scale"]}, device=self._execution_device,
            attention=conditioning.attention,
        )  # fmt: skip

    def _schedule(
        self, backbone: NetworkBackbone, steps: int, skip: float, height: int, width: int, timesteps: Timesteps
    ) -> Schedule:
        return from_scheduler(
            self.scheduler, steps, skip, as_diffusers=timesteps == "diffusers", as_authors=timesteps == "authors"
        )

    def _image_prompts(self, given: Any) -> adapters.ImagePrompts | None:
        return adapters.image_prompts(self, given, self._execution_device)
