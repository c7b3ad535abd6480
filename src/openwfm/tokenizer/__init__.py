"""Causal wavelet tokenizers of clips and images, continuous and discrete."""

from openwfm.tokenizer.autoencoder import VideoTokenizer, load_tokenizer
from openwfm.tokenizer.config import TokenizerConfig
from openwfm.tokenizer.presets import preset

__all__ = ["TokenizerConfig", "VideoTokenizer", "load_tokenizer", "preset"]
