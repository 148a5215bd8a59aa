"""The fingerprint of a checkpoint: every weight and every file of a tokenizer counts, and a second look is cheap."""

import hashlib
import os

import pytest
import torch
from safetensors.torch import load_file, save_file

from ledits.backbones import digest
from ledits.backbones.digest import fingerprint
from ledits.files import cache

TOKENIZER = {"merges.txt": "a b\n", "vocab.json": '{"a": 0}', "spiece.model": "pieces", "tokenizer_config.json": "{}"}


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    """A checkpoint of 40 tensors and a tokenizer, and a cache folder of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "model"
    for part in ("unet", "tokenizer"):
        (folder / part).mkdir(parents=True)
    (folder / "model_index.json").write_text("{}")
    save_file({f"layer {k}": torch.full((64,), float(k)) for k in range(40)}, folder / "unet/weights.safetensors")
    for name, text in TOKENIZER.items():
        (folder / "tokenizer" / name).write_text(text)
    return folder


@pytest.fixture
def later(monkeypatch):
    """A minute after everything was written."""
    now = digest.time.time
    monkeypatch.setattr(digest.time, "time", lambda: now() + 60)


def test_one_changed_number_in_any_tensor_changes_the_fingerprint(checkpoint):
    weights = checkpoint / "unet/weights.safetensors"
    tensors, seen = load_file(weights), {fingerprint(checkpoint)}
    for name, value in tensors.items():
        changed = value.clone()
        changed[-1] += 1
        save_file(tensors | {name: changed}, weights)
        seen.add(fingerprint(checkpoint))
    assert len(seen) == 1 + len(tensors)


@pytest.mark.parametrize("name", TOKENIZER)
def test_every_file_of_a_tokenizer_counts(checkpoint, name):
    before = fingerprint(checkpoint)
    (checkpoint / "tokenizer" / name).write_text(TOKENIZER[name].replace("a", "b") + " ")
    assert fingerprint(checkpoint) != before


def test_files_that_loading_does_not_read_do_not_count(checkpoint):
    before = fingerprint(checkpoint)
    for name in ("README.md", "LICENSE.txt", "whole-model.safetensors", "unet/weights.fp16.safetensors"):
        (checkpoint / name).write_bytes(b"anything")
    assert fingerprint(checkpoint) == before


def counted(monkeypatch) -> list[str]:
    """The names of the files that are read whole from now on."""
    read, plain = [], hashlib.file_digest
    monkeypatch.setattr(digest.hashlib, "file_digest", lambda f, kind: read.append(f.name) or plain(f, kind))
    return read


def test_a_large_file_is_read_once(checkpoint, later, monkeypatch):
    weights = checkpoint / "unet/weights.safetensors"
    save_file({"w": torch.arange(2**19, dtype=torch.float32)}, weights)
    before, read = fingerprint(checkpoint), counted(monkeypatch)
    assert fingerprint(checkpoint) == before
    assert str(weights) not in read
    # The same size and the same time of writing, as a careful copy has them, and other content.
    times = weights.stat()
    save_file({"w": torch.arange(2**19, dtype=torch.float32) + 1}, weights)
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert fingerprint(checkpoint) != before


def test_the_digest_of_a_file_that_may_still_change_is_not_kept(checkpoint, monkeypatch):
    """Two changes within the clock's resolution leave the same times."""
    weights = checkpoint / "unet/weights.safetensors"
    save_file({"w": torch.arange(2**19, dtype=torch.float32)}, weights)
    fingerprint(checkpoint)
    read = counted(monkeypatch)
    fingerprint(checkpoint)
    assert str(weights) in read


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="modes and owners are of Unix")
def test_a_cache_folder_that_others_may_write_to_is_not_used(checkpoint, later, monkeypatch):
    weights = checkpoint / "unet/weights.safetensors"
    save_file({"w": torch.arange(2**19, dtype=torch.float32)}, weights)
    expected = fingerprint(checkpoint)
    for kept in cache.folder().glob("digest-*"):
        kept.write_text("0" * 64)
    assert fingerprint(checkpoint) != expected  # believed, as the folder is the user's own
    cache.folder().chmod(0o777)
    with pytest.raises(OSError, match="others may write"):
        cache.folder()
    assert fingerprint(checkpoint) == expected


def test_the_cache_folder_is_the_users_own_and_absolute(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    umask = os.umask(0)
    try:
        assert cache.folder() == tmp_path / "ledits"
    finally:
        os.umask(umask)
    assert cache.folder().stat().st_mode & 0o777 == 0o700
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache.folder() == tmp_path / "home/.cache/ledits"
    (tmp_path / "home/.cache/ledits").rmdir()
    (tmp_path / "home/.cache/ledits").symlink_to(tmp_path)
    with pytest.raises(OSError, match="no folder"):
        cache.folder()


def test_a_file_for_a_cache_folder_does_no_harm(checkpoint, later, monkeypatch, tmp_path):
    save_file({"w": torch.arange(2**19, dtype=torch.float32)}, checkpoint / "unet/weights.safetensors")
    expected = fingerprint(checkpoint)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert fingerprint(checkpoint) == expected
