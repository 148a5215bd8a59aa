"""What every command takes that loads a model, beside its name, device and dtype: parts, additions, room."""

from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer

from ledits.asked.loading import Embedding, Loading, Lora
from ledits.cli.options import MODEL, dtype_of
from ledits.files import checkpoints


@dataclass(frozen=True)
class More:
    """The options' values."""

    base: Annotated[
        str | None,
        typer.Option(
            "--base", rich_help_panel=MODEL, help="Folder or hub id with the parts that a single-file model lacks."
        ),
    ] = None
    text_encoder: Annotated[
        list[str] | None,
        typer.Option(
            "--text-encoder",
            metavar="FILE",
            rich_help_panel=MODEL,
            help="File of a text encoder, in place of its own; may be repeated.",
        ),
    ] = None
    vae: Annotated[
        str | None,
        typer.Option("--vae", rich_help_panel=MODEL, help="File or folder of an autoencoder, in place of its own."),
    ] = None
    tiny_vae: Annotated[
        str | None,
        typer.Option(
            "--tiny-vae", rich_help_panel=MODEL, help="File or folder of a small autoencoder (TAESD), for previews."
        ),
    ] = None
    lora: Annotated[
        list[str] | None,
        typer.Option(
            "--lora", metavar="FILE_OR_ID[:WEIGHT]", rich_help_panel=MODEL,
            help="A LoRA and its weight; may be repeated. \\[default weight: 1]",
        ),
    ] = None  # fmt: skip
    embedding: Annotated[
        list[str] | None,
        typer.Option(
            "--embedding", metavar="FILE[:WORD]", rich_help_panel=MODEL,
            help="A learned word (textual inversion), and what edits call it; may be repeated.",
        ),
    ] = None  # fmt: skip
    variant: Annotated[
        str | None,
        typer.Option(
            "--variant", rich_help_panel=MODEL, help="The kind of weights, where there are several, such as fp16."
        ),
    ] = None
    offload: Annotated[
        str | None,
        typer.Option(
            "--offload", rich_help_panel=MODEL,
            help="Keep parts in the machine's memory until they run: model, group or sequential, each smaller and "
            "slower.",
        ),
    ] = None  # fmt: skip
    quantize: Annotated[
        str | None,
        typer.Option("--quantize", rich_help_panel=MODEL, help="Keep the weights in fewer bits: int8, fp8 or nf4."),
    ] = None

    def loading(self, model: str | None, device: str | None, dtype: str | None) -> Loading:
        """All that is said of a model, checked without torch; None is the default."""
        return Loading(
            model=model or checkpoints.BUNDLED, device=device or "auto", dtype=dtype_of(dtype), variant=self.variant,
            base=self.base, text_encoders=tuple(self.text_encoder or ()), vae=self.vae, tiny_vae=self.tiny_vae,
            loras=tuple(map(Lora.of, self.lora or ())), embeddings=tuple(map(Embedding.of, self.embedding or ())),
            offload=self.offload, quantize=self.quantize,
        )  # fmt: skip

    def said(self) -> dict[str, Any]:
        """Those that are given, by name."""
        return {name: value for name, value in asdict(self).items() if value}
