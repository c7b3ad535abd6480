"""One guided sampling run with our network and with diffusers', of the same weights and noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from openwfm.diffusion import DiT, DiTConfig
from openwfm.diffusion.caching import StepCache
from openwfm.diffusion.conditioner import Condition
from openwfm.diffusion.config import SamplerConfig
from openwfm.diffusion.precondition import Coefficients, c_noise, denoise
from openwfm.diffusion.runtime import Runtime
from openwfm.diffusion.sampler import sample, solver_sigmas
from openwfm.randomness import torch_generator

Shape = tuple[int, int, int, int]
GUIDANCE = 7.0  # as released
SIGMA_DATA = 0.5
FPS = 24.0


@dataclass(frozen=True)
class RunInputs:
    noise: Tensor
    text: Tensor
    null_tokens: int


def network(config: DiTConfig, seed: int) -> DiT:
    """As initialised, but for modulations and norms, which begin as zeros and ones."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        net = DiT(config).eval().requires_grad_(False)
        for name, parameter in net.named_parameters():
            if name.endswith("up.weight"):
                nn.init.normal_(parameter, std=0.02)
            elif name.endswith("norm.weight"):
                nn.init.uniform_(parameter, 0.5, 1.5)
    return net


def run_inputs(config: DiTConfig, shape: Shape, text: tuple[int, int], seed: int) -> RunInputs:
    """``text``: tokens of the prompt, and with the zero ones that follow."""
    generator = torch_generator(seed, "bench diffusion run")
    noise = torch.randn(1, *shape, generator=generator)
    words, tokens = text
    prompt = torch.randn(1, words, config.text_width, generator=generator)
    return RunInputs(noise, prompt, tokens - words)


@torch.no_grad()
def ours(net: DiT, sampler: SamplerConfig, inputs: RunInputs) -> Tensor:
    runtime = Runtime(
        net,
        sigmas=solver_sigmas(sampler),
        guidance=sampler.guidance,
        interval=sampler.guidance_interval,
        cache=StepCache(sampler.cache) if sampler.cache else None,
        compile_blocks=sampler.compile,
    )
    keys = runtime.text_keys(inputs.text, inputs.null_tokens)
    condition = Condition(text=keys, null_tokens=0, fps=torch.tensor([FPS]))
    return sample(
        lambda x, sigma: denoise(runtime, x, sigma, condition, SIGMA_DATA), inputs.noise, sampler
    )


@torch.no_grad()
def theirs(net: Any, sampler: SamplerConfig, inputs: RunInputs) -> Tensor:
    """The network is called as diffusers' pipeline calls it: with the text, then without."""
    text = nn.functional.pad(inputs.text, (0, 0, 0, inputs.null_tokens))
    mask = inputs.noise.new_zeros(1, 1, *inputs.noise.shape[2:])

    def run(x: Tensor, sigma: Tensor) -> Tensor:
        at = Coefficients.at(sigma, SIGMA_DATA)
        conditional, unconditional = (
            at.skip * x
            + at.out
            * net(
                hidden_states=at.input * x,
                timestep=c_noise(sigma),
                encoder_hidden_states=part,
                fps=int(FPS),
                condition_mask=mask,
                return_dict=False,
            )[0]
            for part in (text, torch.zeros_like(text))
        )
        return conditional + sampler.guidance * (conditional - unconditional)

    return sample(run, inputs.noise, sampler)
