"""Weights of the original release: from a state dict with its key names to our modules, strictly.

Configs are read from keys and shapes; the keyword arguments are what a checkpoint cannot tell.
"""

from openwfm.interop.dit import export_nvidia_dit as export_dit
from openwfm.interop.dit import load_nvidia_dit as load_dit
from openwfm.interop.dit_names import split_action
from openwfm.interop.tokenizer import load_nvidia_tokenizer as load_tokenizer
from openwfm.interop.transformer import export_nvidia_transformer as export_transformer
from openwfm.interop.transformer import load_nvidia_transformer as load_transformer

__all__ = [
    "export_dit",
    "export_transformer",
    "load_dit",
    "load_tokenizer",
    "load_transformer",
    "split_action",
]
