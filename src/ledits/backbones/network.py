"""What every backbone shares: texts embedded once, rows in batches sized to memory, attention maps, predictions."""

import hashlib
import logging
import math
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from copy import copy
from itertools import product
from threading import Lock
from types import MappingProxyType
from typing import Any, Self

import torch
from torch import Tensor

from ledits.backbones import memory, state
from ledits.backbones.attention import Layout, token_maps
from ledits.backbones.codec import Autoencoder, Codec, casting
from ledits.backbones.lora import SCALING, Adapters, Loaded, one_pass
from ledits.backbones.texts import Prompts, Text
from ledits.files.defaults import Defaults
from ledits.method.core import Prompt, Schedule

PREDICTIONS = ("epsilon", "v_prediction", "sample", "flow_prediction")

# How far two answers to one question are apart at most, relative to their root mean square, for they depend on the
# batch. bfloat16, alone and in a batch on a CPU, at full size with random weights: Stable Diffusion 1.5 by 0.006 on
# average and 0.028 at most of 256 numbers, 2.1 by 0.011 and 0.040; tiny networks a third. float16 has three more bits.
# fp32: the sixth digit.
PRECISION = {torch.float32: 2.0**-17, torch.float16: 2.0**-7.5, torch.bfloat16: 2.0**-4.5}

_CPU_ROOM = 2**29  # bytes of a batch on a CPU

logger = logging.getLogger(__name__)

Net = Callable[..., Any]  # the network, called as it is called everywhere
Watch = Callable[[int], None]  # told of the evaluations so far; what it raises stops the pass


class NetworkBackbone:
    """A backbone (see `ledits.backbones.Backbone`) of a codec, text encoders and a network.

    A family says how its network is called (`predict`), which noise levels it knows (`schedule`), and where its
    attention to text is found (`map_layers`, `map_grid`, `map_layout`).
    """

    prediction = "flow_prediction"
    _small: Codec | None = None
    _added: tuple[str, ...] | None = None  # None: a pipeline's, and whatever is on its networks by now
    # LoRAs that it was loaded with, and which of them act; None: whatever somebody else has put on its networks.
    _adapters: Adapters | None = None
    _acting: Mapping[str, float] = MappingProxyType({})
    map_layers: Sequence[str] = ()  # names of attention modules
    # What it was made of: the name of diffusers' pipeline, its components, and its model_index.json.
    made_of: tuple[str, Mapping[str, Any], Mapping[str, Any]] | None = None

    def __init__(
        self,
        codec: Codec,
        prompts: Prompts,
        *,
        name: str,
        fingerprint: str,
        device: torch.device,
        dtype: torch.dtype,
        multiple: int,
        area: int,
        defaults: Defaults,
        max_batch: int | None = None,
    ) -> None:
        self.codec, self.prompts, self.name = codec, prompts, name
        self.device, self.dtype, self.multiple, self.area = device, dtype, multiple, area
        self.defaults, self.max_batch = defaults, max_batch
        self._fingerprint, self._counted = fingerprint, ("", "")  # the second: of a token, where none is given
        self._as_made = self._live() if fingerprint else ""

    @property
    def net(self) -> Any:
        raise NotImplementedError

    @property
    def factor(self) -> int:
        """The picture's side over the latents'."""
        return self.codec.factor

    def schedule(self, steps: int, skip: float, height: int | None = None, width: int | None = None) -> Schedule:
        raise NotImplementedError

    def predict(self, net: Net, x: Tensor, t: Tensor, alpha: Tensor, sigma: Tensor, texts: Sequence[Text]) -> Tensor:
        """Clean pictures (r c h w) fp32 that the network sees in the rows x, each at its own t, alpha and sigma (r)."""
        raise NotImplementedError

    def map_grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of the attention maps, for latents of height x width."""
        raise NotImplementedError

    def map_layout(self, tokens: int, cells: int) -> Layout:
        """Where picture and text are in the layers that are recorded: of cross-attention, the queries are the cells."""
        return Layout(cells, cells)

    def row_bytes(self, x: Tensor, tokens: int) -> int:
        """Of memory that one row of latents x (... h w) takes in the network, with a text of so many tokens."""
        raise NotImplementedError

    @property
    def fingerprint(self) -> str:
        """Of the checkpoint's files; where it has none, of the weights as they are, adapters apart."""
        if self._fingerprint:
            return self._fingerprint
        token, found = self._counted
        if token != (now := self._live()):
            with self._still():
                found = state.content(self.modules())
            self._counted = now, found
        return found

    def added(self, additions: tuple[str, ...], loras: Sequence[Loaded] = ()) -> None:
        """What was added to the checkpoint while it was read, LoRAs apart."""
        self._added = additions
        if loras:
            modules = self.modules()
            encoders = [each for name, each in modules.items() if name.startswith("text")]
            self._adapters = Adapters(loras, modules["net"], encoders)
            self._acting = self._adapters.usual
            self._as_made = self._live()

    @property
    def loras(self) -> tuple[Loaded, ...]:
        """The LoRAs that it was loaded with."""
        return self._adapters.loaded if self._adapters else ()

    def choosing(self, loras: str) -> Self:
        """The same model with some of its LoRAs, such as "detail:0.5, style", or "none" of them; "" is all of them, as
        they were loaded. Both share every network, and may be used at once. ValueError for one that is not loaded.
        """
        if self._added is None:
            raise ValueError(f"LoRAs {loras!r}: a pipeline's own are chosen in it, by pipe.set_adapters")
        adapters = self._adapters or Adapters((), self.net, ())
        chosen = adapters.choice(loras) if loras else adapters.usual
        if chosen == self._acting:
            return self
        other = copy(self)
        other._acting = chosen
        other._as_made = other._live()
        return other

    def previews(self, vae: Any) -> None:
        """A small autoencoder that `preview` decodes with; ValueError for one of other latents."""
        own, its = getattr(getattr(self.codec, "vae", None), "config", None), vae.config.latent_channels
        if (channels := getattr(own, "latent_channels", None)) != its:
            raise ValueError(f"the tiny autoencoder has latents of {its} channels, and the model's have {channels}")
        self._small = Autoencoder(vae, self.device)

    def preview(self, x: Tensor) -> Tensor:
        """`decode` for a look at what is in the making, by a small autoencoder where one was given."""
        return (self._small or self.codec).decode(x)

    def state(self) -> state.State:
        """What it is at this moment; see `state`."""
        live = self._live()
        if live == self._as_made:  # nothing was changed since its files were read: the same in every process
            said = f"{self.fingerprint} {self.additions} {self.dtype} {self.device.type}"
            live = hashlib.sha256(said.encode()).hexdigest()[:32]
        with casting():
            return state.State(live, state.encodes(getattr(self.codec, "vae", None)))

    @property
    def additions(self) -> tuple[str, ...]:
        """What was added to the checkpoint, each by its hash: LoRAs, words that were learned, another autoencoder."""
        if self._added is None:
            with self._still():
                found = state.adapters(self.modules().values())
            return (f"adapters {found}",) if found else ()
        return self._added if self._adapters is None else (*self._added, *self._adapters.said(self._acting))

    def _live(self) -> str:
        modules = self.modules()
        modules.pop("vae", None)
        words = [each for each in self._told_by() if not isinstance(each, torch.nn.Module)]
        scheduler = {key: value for key, value in getattr(self, "scheduler", {}).items() if key[0] != "_"}
        with self._still():
            return state.predicts(modules.values(), words, (scheduler, str(self.dtype), self.device.type))

    def _told_by(self) -> list[Any]:
        return list(state.within(list(vars(self.prompts).values())))

    def modules(self) -> dict[str, torch.nn.Module]:
        """The network ("net"), the autoencoder ("vae") and what reads texts ("text1", ...), where they are there."""
        found: dict[str, Any] = {
            "net": getattr(self.net, "_orig_mod", self.net),
            "vae": getattr(self.codec, "vae", None),
        }
        for each in self._told_by():
            if isinstance(each, torch.nn.Module):
                found.setdefault(f"text{len(found)}", each)
        return {name: each for name, each in found.items() if isinstance(each, torch.nn.Module)}

    @contextmanager
    def _still(self) -> Generator[None]:
        """While no other thread scales an adapter or casts the autoencoder for one pass."""
        with self.passing(), self.telling(), casting():
            yield

    @contextmanager
    def passing(self) -> Generator[None]:
        """One pass through the network, with the LoRAs that act here."""
        with one_pass(self.net):
            if self._adapters:
                self._adapters.in_network(self._acting)
            yield

    @contextmanager
    def telling(self) -> Generator[None]:
        """While prompts go through the text encoders, with the LoRAs that act here."""
        with SCALING:
            if self._adapters:
                self._adapters.in_texts(self._acting)
            yield

    def encode(self, images: Tensor) -> Tensor:
        return self.codec.encode(images)

    def decode(self, x: Tensor) -> Tensor:
        return self.codec.decode(x)

    @contextmanager
    def denoiser(self, schedule: Schedule, *, maps: bool, watch: Watch | None = None) -> Generator["_Denoiser"]:
        yield _Denoiser(self, schedule, maps, watch)

    def slope(self, schedule: Schedule, i: int) -> float:
        """What x0 changes by where the network's output changes by one, at level i."""
        alpha, sigma = schedule.alpha[i], schedule.sigma[i]
        return {"epsilon": -sigma / alpha if alpha else -math.inf, "sample": 1.0}.get(self.prediction, -sigma)

    def clean(self, x: Tensor, alpha: Tensor, sigma: Tensor, output: Tensor) -> Tensor:
        """The clean picture that the network's output says of x (r c h w)."""
        alpha, sigma, output = alpha.view(-1, 1, 1, 1), sigma.view(-1, 1, 1, 1), output.float()
        match self.prediction:
            case "epsilon":
                return (x - sigma * output) / alpha
            case "v_prediction":
                return alpha * x - sigma * output
            case "flow_prediction":  # of eps - x0, where alpha + sigma = 1
                return x - sigma * output
            case _:
                return output


class _Denoiser:
    """`core.Denoiser` over a network; texts are embedded once, rows are evaluated in batches sized to memory."""

    def __init__(self, backbone: NetworkBackbone, schedule: Schedule, maps: bool, watch: Watch | None) -> None:
        if backbone.prediction == "epsilon" and schedule.alpha[0] == 0:
            raise ValueError(
                f"model {backbone.name!r} predicts noise, and the first level is nothing else: use skip above 0, "
                "or a scheduler without rescale_betas_zero_snr"
            )
        self.evaluations, self.precision = 0, PRECISION[torch.float32]
        self._backbone, self._schedule, self._maps, self._watch = backbone, schedule, maps, watch
        self._size = 0  # of batches, found with the first picture
        self._plain = maps
        self._texts: dict[Prompt, Text] = {}

    def __call__(self, x: Tensor, levels: Sequence[int], prompts: Sequence[Prompt]) -> tuple[Tensor, Tensor | None]:
        device = x.device.type
        kind = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else self._backbone.dtype
        self.precision = PRECISION.get(kind, PRECISION[torch.bfloat16])
        if kind != torch.float32:  # whose digit has room for it
            # Noise is as large as a picture, and an answer's rounding grows with what the picture changes by it.
            self.precision *= max(1.0, *(abs(self._backbone.slope(self._schedule, i)) for i in levels))
        # The mode is set in here, and not around a replay, which its caller may leave at any step and go on in another
        # thread. What is returned is made outside of it: tensors that anybody may change.
        with torch.inference_mode():
            order, clean, maps = self._rows(x, levels, prompts)
        with torch.no_grad():
            shape = (len(prompts), *x.shape[:2])
            back = [0] * len(order)
            for place, row in enumerate(order):
                back[row] = place
            joined = [torch.cat(parts) if parts else None for parts in (clean, maps)]
            if order != sorted(order):
                joined = [part if part is None else part[back] for part in joined]
            found, seen = (part if part is None else part.unflatten(0, shape) for part in joined)
            assert found is not None
            return found, seen

    def _rows(
        self, x: Tensor, levels: Sequence[int], prompts: Sequence[Prompt]
    ) -> tuple[list[int], list[Tensor], list[Tensor]]:
        """The order in which rows were evaluated, and the clean pictures and maps of each batch of them."""
        n, b = x.shape[:2]
        # One row of the network's batch for each prompt, level and picture, in this order.
        rows = [
            (self._text(prompt[k] if isinstance(prompt, tuple) else prompt), j, k)
            for prompt, j, k in product(prompts, range(n), range(b))
        ]
        # Rows of texts of unequal length never share a batch: none is padded, and none needs a mask.
        order = sorted(range(len(rows)), key=lambda row: len(rows[row][0].states))
        self._size = self._size or self._batch(x, max(len(text.states) for text, _, _ in rows))
        clean, maps, start = list[Tensor](), list[Tensor](), 0
        while start < len(order):
            tokens = len(rows[order[start]][0].states)
            stop = start + 1
            while stop < len(order) and stop - start < self._size and len(rows[order[stop]][0].states) == tokens:
                stop += 1
            part = [rows[row] for row in order[start:stop]]
            texts, x_part = [text for text, _, _ in part], torch.stack([x[j, k] for _, j, k in part])
            with self._recording(texts, x_part) as recorder:
                clean.append(self._evaluate(x_part, [levels[j] for _, j, _ in part], texts))
            if recorder:
                maps.append(recorder.read().unflatten(1, self._backbone.map_grid(*x.shape[-2:])))
            if self._watch:
                self._watch(self.evaluations)
            start = stop
        return order, clean, maps

    def _recording(self, texts: Sequence[Text], x: Tensor) -> Any:
        if not self._maps:
            return nullcontext()
        model = self._backbone
        layout = model.map_layout(len(texts[0].states), math.prod(model.map_grid(*x.shape[-2:])))
        words = torch.stack([text.words for text in texts])
        return token_maps(model.net, model.map_layers, words, layout, x.device)

    def _evaluate(self, x: Tensor, levels: Sequence[int], texts: Sequence[Text]) -> Tensor:
        """The clean pictures (r c h w) that the network sees in the rows x, each at its own level."""
        s = self._schedule
        # Explicitly fp32, whatever the caller's default is.
        t, alpha, sigma = (
            torch.tensor([v[i] for i in levels], dtype=torch.float32).to(x.device) for v in (s.t, s.alpha, s.sigma)
        )
        with self._backbone.passing():
            clean = self._backbone.predict(self._through, x.float(), t, alpha, sigma, texts)
        self.evaluations += len(x)
        return clean

    def _through(self, *inputs: Any, **named: Any) -> Any:
        """The network's answer; one that the caller has compiled runs as it is where its attention is recorded."""
        if not self._plain:
            try:
                return self._backbone.net(*inputs, **named)
            except _compilation_errors() as error:
                reason = str(error).strip().splitlines()[0]
                logger.warning("the network can't be compiled and runs as it is, which is slower: %s", reason)
                self._plain = True
        # Where nobody has compiled anything the import of the compiler would cost a second.
        with UNCOMPILED if "torch._dynamo.eval_frame" in sys.modules else nullcontext():
            return self._backbone.net(*inputs, **named)

    def _text(self, prompt: Prompt) -> Text:
        if isinstance(prompt, Text):
            return prompt
        if prompt not in self._texts:
            _send_away(self._backbone.net)
            with self._backbone.telling() if self._backbone.loras else nullcontext():
                self._texts[prompt] = self._backbone.prompts.embed(str(prompt))
        return self._texts[prompt]

    def _batch(self, x: Tensor, tokens: int) -> int:
        """How many rows to evaluate at once: what half of the free memory holds, at most 32.

        Small batches saturate a CPU, and large ones outgrow its caches: SD 1.5 at 512 x 512 takes 5.4 s a row by
        twenties, 4.7 by twos. Raises ValueError where not even one row fits.
        """
        model = self._backbone
        need = model.row_bytes(x, tokens)
        memory.check(x.device, need, *(model.factor * side for side in x.shape[-2:]))
        room = memory.free(x.device) // 2
        return model.max_batch or max(1, min(32, (min(room, _CPU_ROOM) if x.device.type == "cpu" else room) // need))


def _send_away(net: Any) -> None:
    """Where whole parts are offloaded, the network leaves the device: a language model may not fit beside it.

    A part of a pipeline sends away the one before it in the pipeline's order. Nobody sends the network away when words
    come that are embedded after it has run, as those of an edit are.
    """
    if (hook := getattr(net, "_hf_hook", None)) is not None:
        from accelerate.hooks import CpuOffload

        if isinstance(hook, CpuOffload):
            hook.init_hook(net)


class _Uncompiled:
    """Compiled networks run as they are inside the block, in whichever threads.

    The compiler's stance is global. The first thread in sets it and the last one out restores it: were each to restore
    what it found, threads that overlap would leave the compiler off for good.
    """

    def __init__(self) -> None:
        self._lock, self._inside = Lock(), 0
        self._stance: Any = None

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._stance = torch.compiler.set_stance("force_eager")
                self._stance.__enter__()
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._stance.__exit__(None, None, None)


UNCOMPILED = _Uncompiled()


def _compilation_errors() -> tuple[type[Exception], ...]:
    # Whoever compiled has loaded it.
    loaded = sys.modules.get("torch._dynamo.exc")
    return (loaded.TorchDynamoException,) if loaded else ()


def number(settings: Mapping[str, Any], key: str, usual: float, name: str) -> float:
    """A number of a checkpoint's ledits.json."""
    value: object = settings.get(key, usual)
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"model {name!r}: {key} {value!r} in its ledits.json is no number, such as {usual}")
    return float(value)
