"""Tensors by name out of every kind of file that tokenizers of the release come in."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from openwfm.interop.tokenizer_names import image_name, is_constant, original_name
from openwfm.interop.torchscript import is_torchscript, read_torchscript
from openwfm.interop.training_checkpoint import read_training_checkpoint
from openwfm.tokenizer.autoencoder import VideoTokenizer
from openwfm.tokenizer.quantize import indices_to_codes
from openwfm.weights import read_tensors

WHOLE, ENCODER, DECODER, CHECKPOINT = "autoencoder.jit", "encoder.jit", "decoder.jit", "model.pt"


def read_release(
    path: Path | str, *, average: bool | None = None
) -> tuple[dict[str, Tensor], list[str]]:
    """Tensors by the release's names, and a line on each file that was read.

    ``path`` is a file (TorchScript archive, training checkpoint, state dict, safetensors) or a
    folder of the release: its ``autoencoder.jit``, else ``encoder.jit`` and ``decoder.jit``, else
    ``model.pt``. One half alone brings in the other from beside it. Raises ValueError naming the
    file when it is none of these, when half is missing, or when the halves contradict each other.
    """
    path = Path(path)
    if path.is_dir():
        names = (WHOLE, ENCODER, DECODER, CHECKPOINT)
        present = [name for name in names if (path / name).is_file()]
        if not present:
            raise ValueError(f"{path}: has none of {', '.join(names)}")
        path = path / present[0]
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    if path.name in (ENCODER, DECODER):
        return _join(path.with_name(ENCODER), path.with_name(DECODER))
    if is_torchscript(path):
        return read_torchscript(path), [f"{path}: TorchScript archive, its code left alone"]
    if path.suffix == ".safetensors":
        return read_tensors(path), [f"{path}: safetensors"]
    tensors, averaged = read_training_checkpoint(path, average=average)
    kind = "moving average of a training checkpoint" if averaged else "checkpoint, not averaged"
    return tensors, [f"{path}: {kind}"]


def _join(encoder: Path, decoder: Path) -> tuple[dict[str, Tensor], list[str]]:
    """Both halves as one; what both hold must be equal."""
    for half in (encoder, decoder):
        if not half.is_file():
            raise ValueError(f"{half}: no such file; a tokenizer is {ENCODER} and {DECODER}")
    first, second = read_torchscript(encoder), read_torchscript(decoder)
    wrong = [n for n in first.keys() & second.keys() if not torch.equal(first[n], second[n])]
    if wrong:
        raise ValueError(
            f"{encoder} and {decoder}: differ in {', '.join(sorted(wrong)[:5])}; "
            "they are not halves of one tokenizer"
        )
    lines = [f"{half}: TorchScript archive, its code left alone" for half in (encoder, decoder)]
    return {**first, **second}, lines


def release_tensors(tokenizer: VideoTokenizer) -> dict[str, Tensor]:
    """A tokenizer's tensors as the release names and shapes them, its constants included."""
    config = tokenizer.config
    if config.attention_window is not None:
        raise ValueError(f"tokenizer.attention_window={config.attention_window}: no such release")
    tensors: dict[str, Tensor] = {}
    for name, tensor in tokenizer.state_dict().items():
        if config.is_image:
            tensors[image_name(name)] = tensor.squeeze(2) if tensor.ndim == 5 else tensor
        else:
            tensors[original_name(name)] = tensor
    return tensors | _constants(tokenizer)


def _constants(tokenizer: VideoTokenizer) -> dict[str, Tensor]:
    config = tokenizer.config
    end = "" if config.is_image else "3d"
    forth, back = f"encoder.patcher{end}", f"decoder.unpatcher{end}"
    constants = {f"{forth}.patch_size_buffer": torch.tensor([config.patch_size], dtype=torch.int32)}
    for place in (forth, back):
        constants[f"{place}.wavelets"] = torch.full((2,), 0.5**0.5)
        constants[f"{place}._arange"] = torch.arange(2)
    if config.fsq_levels is not None:
        levels = torch.tensor(config.fsq_levels, dtype=torch.int32)
        basis = torch.cat((levels.new_ones(1), levels[:-1].cumprod(0, dtype=torch.int32)))
        codes = indices_to_codes(torch.arange(config.num_codes or 0), config.fsq_levels)
        constants["quantizer._levels"], constants["quantizer._basis"] = levels, basis
        constants["quantizer.implicit_codebook"] = codes
    assert all(map(is_constant, constants))
    return constants
