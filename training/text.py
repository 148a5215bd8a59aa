"""The bundled model's tokenizer and text encoder: CLIP's classes, with a vocabulary of the scenes' own words."""

from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from ledits import scenes
from ledits.scenes import captions

# The longest caption has 25 words and as many commas as make 30, between a start and an end.
TOKENS = 32
WIDTH = 128


def tokenizer(folder: Path) -> CLIPTokenizer:
    """A byte-level BPE in which every word of a caption is one token, and any other text still has tokens.

    The trainer numbers letters in an order of its own each time, so that a model needs the one it began with.
    """
    words = " ".join(
        [*scenes.OBJECTS, *map(scenes.noun, scenes.BACKGROUNDS), *map(scenes.where, scenes.BACKGROUNDS)]
        + ["a an and the on in at under to of left right middle empty no nothing without with colour photo picture of"]
        + [*scenes.ACCESSORIES, *scenes.STYLES, "wearing animal hat drawing art pixelated oil painting old"]
        + ["big small bright dark new old one two three apple heart background", *captions.words()]
    )
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), bpe.pre_tokenizer])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=4096, min_frequency=1, show_progress=False, end_of_word_suffix="</w>", initial_alphabet=alphabet
    )
    bpe.train_from_iterator([words], trainer)
    folder.mkdir(parents=True, exist_ok=True)
    _, merges = bpe.model.save(str(folder))
    vocabulary = bpe.get_vocab()
    pieces = sorted(vocabulary, key=vocabulary.__getitem__)
    # Byte-level pieces at a word's end, so that unknown words are spelt out rather than lost.
    pieces += [letter + "</w>" for letter in alphabet if letter + "</w>" not in vocabulary]
    pieces += ["<|startoftext|>", "<|endoftext|>"]
    lines = [tuple(line.split()) for line in Path(merges).read_text().splitlines() if not line.startswith("#")]
    result = CLIPTokenizer(
        vocab={piece: i for i, piece in enumerate(pieces)},
        merges=lines,
        model_max_length=TOKENS,
    )
    result.save_pretrained(folder)
    return result


def encoder(tokens: CLIPTokenizer) -> CLIPTextModel:
    """The text encoder of a UNet."""
    return CLIPTextModel(_config(tokens, WIDTH, 2))


def projected(tokens: CLIPTokenizer, width: int) -> CLIPTextModelWithProjection:
    """One of a flow transformer's two, whose last layer but one is told to it word by word, the last as a whole."""
    return CLIPTextModelWithProjection(_config(tokens, width, 3))


def deepen(part: CLIPTextModel | CLIPTextModelWithProjection, layers: int) -> None:
    """Give a text encoder so many layers, in place. New ones come first, and begin as the identity."""
    there = (part.text_model if isinstance(part, CLIPTextModelWithProjection) else part).encoder.layers
    for _ in range(layers - len(there)):
        new = type(there[0])(part.config)
        for last in (new.self_attn.out_proj, new.mlp.fc2):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        there.insert(0, new)
    part.config.num_hidden_layers = len(there)


def _config(tokens: CLIPTokenizer, width: int, layers: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokens),
        hidden_size=width,
        intermediate_size=4 * width,
        projection_dim=width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        max_position_embeddings=TOKENS,
        hidden_act="gelu",
        bos_token_id=tokens.bos_token_id,
        eos_token_id=tokens.eos_token_id,
        pad_token_id=tokens.pad_token_id,
    )
