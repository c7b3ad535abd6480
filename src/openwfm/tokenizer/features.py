"""The perceptual backbone, under the name that the tokenizer's losses know it by."""

from openwfm.nn.efficientnet import EfficientNetFeatures, load_backbone

__all__ = ["EfficientNetFeatures", "load_backbone"]
