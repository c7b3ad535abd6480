"""Initial weights from which a short training leaves the plateau of grey frames at once.

With torch's defaults the biases drown the signal of the wavelet's low bands, the random outputs of
the 64 bands add up to noise several times brighter than the clips, and a network of 1.4 M
parameters predicts the mean grey for its first hundred steps (50 steps of batch 4 on soft synthetic
clips of 17x32x32, AdamW: 14.6 to 16.4 dB). So that it starts as a short, nearly linear chain:

- biases are 0; convolutions in time pass the present frame on; mixes pass everything on;
- the last layer of every residual path is 0, and so are the convolutions beside a pool or a nearest
  neighbour;
- convolutions into and out of encoder, latents and decoder are orthogonal maps at their centre, the
  first one amplified and the last one damped to the amplitudes of wavelet bands.

The same 50 steps then reach 20.1 dB (at a learning rate of 1e-3).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from openwfm.nn.causal import SpatialConv, TemporalConv
from openwfm.tokenizer.autoencoder import VideoTokenizer
from openwfm.tokenizer.blocks import Attention, Downsample, ResidualBlock, Upsample

IN_GAIN, OUT_GAIN = 8.0, 0.05


@torch.no_grad()
def initialize(tokenizer: VideoTokenizer) -> None:
    """Overwrite all weights, drawing from torch's global generator."""
    for module in tokenizer.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
            assert module.bias is not None
            nn.init.zeros_(module.bias)
        if isinstance(module, TemporalConv):
            _pass_on(module.weight)
    for module in tokenizer.modules():
        if isinstance(module, ResidualBlock):
            nn.init.zeros_(module.conv2.time.weight)
        elif isinstance(module, Attention):
            nn.init.zeros_(module.output.weight)
        elif isinstance(module, (Downsample, Upsample)):
            for branch in (module.space, module.time):
                if branch is not None:
                    nn.init.zeros_(branch.weight)
            _pass_on(module.mix.weight)
    encoder, decoder = tokenizer.encoder, tokenizer.decoder
    _orthogonal(encoder.conv_in.space, IN_GAIN)
    _orthogonal(encoder.conv_out.space, 1.0)
    _orthogonal(tokenizer.to_latents, 1.0)
    _orthogonal(tokenizer.from_latents, 1.0)
    _orthogonal(decoder.conv_in.space, 1.0)
    _orthogonal(decoder.conv_out.space, OUT_GAIN)


def _pass_on(weight: Tensor) -> None:
    """The identity on the last tap in time, which is the present frame."""
    nn.init.zeros_(weight)
    nn.init.eye_(weight[:, :, -1, 0, 0])


def _orthogonal(conv: nn.Conv3d, gain: float) -> None:
    nn.init.zeros_(conv.weight)
    centre = 1 if isinstance(conv, SpatialConv) else 0
    nn.init.orthogonal_(conv.weight[:, :, 0, centre, centre], gain)
