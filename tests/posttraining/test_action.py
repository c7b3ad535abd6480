"""Actions and cameras through the ports: nothing at the start, everything afterwards."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from openwfm.diffusion.config import ConditionerConfig, DiTConfig, EdmConfig, SamplerConfig
from openwfm.diffusion.control import Control, Controls, Ports, read_control
from openwfm.diffusion.model import DiffusionWorldModel
from openwfm.diffusion.stages import widened
from openwfm.posttraining import CONTROLS
from openwfm.posttraining.action import ActionConfig, release_action, shifted
from openwfm.posttraining.camera import CameraConfig
from openwfm.posttraining.camera_path import joystick, pinhole

NET = DiTConfig(
    in_channels=4, out_channels=4, width=32, num_blocks=2, num_heads=2, text_width=8, adaln_rank=4,
    max_size=(8, 8, 8), padding_mask=False,
)  # fmt: skip
GIVEN = ConditionerConfig(
    text_encoder="none", text_width=8, text_tokens=1, text_dropout=0.0, min_frames=1, max_frames=1
)
ACTION = ActionConfig(
    names=("dx", "dy"), units=("m", "m"), mean=(0.0, 0.5), std=(1.0, 2.0), low=(-1.0, -1.0),
    high=(1.0, 1.0), rate=5.0, steps=2,
)  # fmt: skip


def model(control: Control | None, **net: int) -> DiffusionWorldModel:
    torch.manual_seed(0)
    made = DiffusionWorldModel(
        net=replace(NET, **net),  # type: ignore[arg-type]
        objective=EdmConfig(),
        conditioner=GIVEN,
        sampler=SamplerConfig(num_steps=3, guidance=0.0),
        control=control,
    ).eval()
    made.set_latent_statistics(torch.zeros(4, 1), torch.ones(4, 1))
    return made


def teach(module: torch.nn.Module, seed: int = 1) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator)


def generate(made: DiffusionWorldModel, controls: Controls | None, frames: int = 3) -> Tensor:
    return made.generate_latents(
        condition=torch.ones(2, 4, 1, 4, 4),
        num_latent_frames=frames,
        text=None,
        fps=torch.full((2,), 5.0),
        seed=3,
        controls=controls,
    )


def actions(seed: int) -> Controls:
    generator = torch.Generator().manual_seed(seed)
    return Controls(action=torch.randn(2, 2, 2, generator=generator))


def test_an_action_changes_nothing_at_the_start_and_both_of_its_branches_learn() -> None:
    made = model(ACTION.build(32))
    base = model(None)
    base.load_state_dict({n: t for n, t in made.state_dict().items() if "control" not in n})
    # Sampling may fold one modulation for all samples into the norms, which rounds otherwise.
    assert torch.allclose(generate(made, actions(0)), generate(base, None), atol=1e-5)
    draws = made.draw(torch.Size((2, 4, 3, 4, 4)), torch.Generator().manual_seed(0))
    latents = torch.randn(2, 4, 3, 4, 4, generator=torch.Generator().manual_seed(5))
    step = {"text": None, "fps": torch.full((2,), 5.0)}
    with torch.no_grad():
        losses = [
            made.loss(latents, draws, **step, controls=actions(0)),
            base.loss(latents, draws, **step),
        ]
    assert torch.equal(losses[0][0], losses[1][0])
    teach(made.net)
    loss, _ = made.loss(latents, draws, text=None, fps=torch.full((2,), 5.0), controls=actions(0))
    loss.backward()
    assert made.control is not None
    for branch in ("embedding", "shared"):
        grad = made.control.get_parameter(f"{branch}.2.weight").grad
        assert grad is not None and float(grad.abs().max()) > 0, branch


def test_a_learned_action_steers_and_the_prepared_network_agrees_with_the_plain_one() -> None:
    made = model(ACTION.build(32))
    teach(made)
    one, other = generate(made, actions(0)), generate(made, actions(1))
    assert float((one - other).abs().max()) > 1e-3
    both = Controls(action=torch.cat((actions(0).action[:1], actions(1).action[:1])))  # type: ignore[index]
    mixed = generate(made, both)
    assert torch.allclose(mixed[0], one[0], atol=1e-5)


def test_dropped_samples_see_no_control() -> None:
    ports = Ports(channels=torch.ones(3, 2, 1, 1, 1), modulation=torch.ones(3, 8))
    kept = ports.kept(torch.tensor([True, False, True]))
    assert kept.channels is not None and kept.modulation is not None
    assert kept.channels[:, 0, 0, 0, 0].tolist() == [1, 0, 1]
    assert kept.modulation.sum(1).tolist() == [8, 0, 8]


def camera(count: int = 17) -> Controls:
    return Controls(
        intrinsics=pinhole((32, 32), 50.0).expand(2, count, -1, -1),
        camera_to_world=joystick(f"forward*{count - 1}").expand(2, -1, -1, -1),
        size=(32, 32),
    )


def test_a_camera_starts_at_nothing_from_a_base_without_one() -> None:
    control = CameraConfig().build(32)
    made, base = model(control, extra_channels=6), model(None)
    tensors = dict(base.state_dict())
    weight = tensors["net.patch_in.weight"]
    tensors["net.patch_in.weight"] = widened(weight, made.net.config, 6)
    made.load_state_dict(tensors)
    assert torch.equal(generate(made, camera()), generate(base, None))
    teach(made)
    turned = replace(camera(), camera_to_world=joystick("turn_left*16").expand(2, -1, -1, -1))
    assert float((generate(made, camera()) - generate(made, turned)).abs().max()) > 1e-4


def test_controls_are_read_back_from_what_is_published() -> None:
    for config in (ACTION, CameraConfig(packing="unshuffle")):
        control = config.build(32)
        again = read_control(control.export_config(), 32, "config.json", CONTROLS)
        assert again is not None and again.config == config
        assert again.channels == control.channels
    assert read_control(None, 32, "config.json", CONTROLS) is None
    with pytest.raises(ValueError, match=r"control\.kind=wind: must be one of action, camera"):
        read_control({"kind": "wind"}, 32, "config.json", CONTROLS)
    with pytest.raises(ValueError, match="unknown keys"):
        read_control({**CameraConfig().build(1).export_config(), "colour": 1}, 1, "c", CONTROLS)


def test_released_action_embedders_load_strictly() -> None:
    control = replace(ACTION, steps=1, hidden_ratio=4.0).build(32)
    released = {
        f"net.action_embedder_B_{part}.fc{layer}.{kind}": torch.randn(shape)
        for part, out in (("D", 32), ("3D", 96))
        for layer, sizes in ((1, (128, 2)), (2, (out, 128)))
        for kind, shape in (("weight", sizes), ("bias", sizes[:1]))
    }
    control.load_state_dict(release_action(released))
    assert torch.equal(control.shared[2].weight, released["net.action_embedder_B_3D.fc2.weight"])
    with pytest.raises(ValueError, match="fc3"):
        release_action({"net.action_embedder_B_D.fc3.weight": torch.zeros(1)})


def test_a_shift_in_time_keeps_the_shape_and_the_order() -> None:
    values = torch.arange(5.0).view(1, 5, 1)
    assert shifted(values, 2)[0, :, 0].tolist() == [0, 0, 0, 1, 2]


@pytest.mark.parametrize(
    ("controls", "message"),
    [
        (None, "control=action"),
        (Controls(), "action: missing"),
        (Controls(action=torch.zeros(2, 2, 3)), r"2\): dx, dy"),
        (Controls(action=torch.zeros(2, 1, 2)), r"at least control\.steps=2"),
        (Controls(action=torch.full((2, 2, 2), torch.nan)), "finite"),
    ],
)
def test_actions_that_do_not_fit_are_named(controls: Controls | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        generate(model(ACTION.build(32)), controls)


def test_cameras_that_do_not_fit_are_named() -> None:
    made = model(CameraConfig().build(32), extra_channels=6)
    with pytest.raises(ValueError, match=r"camera\.intrinsics: missing"):
        generate(made, Controls())
    with pytest.raises(ValueError, match=r"latents \(2, 4, 4\): must be \(3, 4, 4\)"):
        generate(made, camera(9))
    with pytest.raises(ValueError, match=r"extra_channels=0: must be 6"):
        model(CameraConfig().build(32))
