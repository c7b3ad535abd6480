"""The autoregressive world model: next-token prediction of discrete video (section 5.2)."""

from openwfm.autoregressive.cache import KeyValueCache
from openwfm.autoregressive.config import TransformerConfig, YarnConfig
from openwfm.autoregressive.presets import preset
from openwfm.autoregressive.transformer import Transformer

__all__ = ["KeyValueCache", "Transformer", "TransformerConfig", "YarnConfig", "preset"]
