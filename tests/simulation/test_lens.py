"""The renderer stands exactly where a pose says: against projections in closed form."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openwfm.simulation.camera import View
from openwfm.simulation.lens import Lens, look_at, project
from openwfm.simulation.render import Renderer

mujoco = pytest.importorskip("mujoco")
WIDTH, HEIGHT, FOVY = 160, 96, 50.0
BALLS = [(0.0, 0.0, 0.5), (1.2, -0.4, 0.9), (-0.7, 0.8, 0.3), (0.4, 1.1, 1.6)]
XML = f"""
<mujoco><statistic extent="4"/>
 <visual><global offwidth="{2 * WIDTH}" offheight="{2 * HEIGHT}"/><quality offsamples="0"/>
 <map znear="0.02" zfar="20"/><headlight ambient="1 1 1" diffuse="0 0 0" specular="0 0 0"/></visual>
 <worldbody><geom name="floor" type="plane" size="9 9 1" rgba="0 0 1 1"/>
 {
    "".join(
        f'<geom name="b{i}" size="0.12" pos="{x} {y} {z}" rgba="1 0 0 1"/>'
        for i, (x, y, z) in enumerate(BALLS)
    )
}
 </worldbody></mujoco>"""
EYES = [(3.0, 1.0, 2.0), (-2.5, 2.0, 1.0), (0.3, -4.0, 3.0)]


@pytest.fixture(scope="module")
def scene(backend: str):  # type: ignore[no-untyped-def]
    model = mujoco.MjModel.from_xml_string(XML)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    renderer = Renderer(model, backend, WIDTH, HEIGHT, 2)
    yield model, data, renderer
    renderer.close()


@pytest.mark.parametrize("eye", EYES)
def test_balls_are_drawn_where_the_lens_projects_them(scene, eye) -> None:  # type: ignore[no-untyped-def]
    model, data, renderer = scene
    pose = look_at(np.array(eye), np.array([0.1, 0.2, 0.6]))
    image = renderer.render(data, FOVY, pose)
    ids, depth = renderer.render_truth(data, FOVY, pose)
    intrinsics = Lens(width=WIDTH, height=HEIGHT, fovy=FOVY).intrinsics()
    assert image.shape == (HEIGHT, WIDTH, 3)
    expected = project(np.array(BALLS), intrinsics, pose)
    for number, (column, row, far) in enumerate(expected):
        seen = ids == model.geom(f"b{number}").id
        rows, columns = np.nonzero(seen)
        assert seen.sum() > 12
        assert abs(columns.mean() + 0.5 - column) < 0.5 and abs(rows.mean() + 0.5 - row) < 0.5
        assert depth[seen].min() == pytest.approx(far - 0.12, abs=0.02)
        assert (image[seen][:, 0] > image[seen][:, 2]).mean() > 0.7
    # The floor's depth in closed form, at every pixel where it is seen.
    rows, columns = np.nonzero(ids == model.geom("floor").id)
    rays = np.linalg.inv(intrinsics) @ np.stack([columns + 0.5, rows + 0.5, np.ones(len(rows))])
    slope = (pose[:3, :3] @ rays)[2]
    near = -pose[2, 3] / slope < 9
    np.testing.assert_allclose(depth[rows, columns][near], (-pose[2, 3] / slope)[near], rtol=2e-3)


@settings(max_examples=30, deadline=None)
@given(
    st.tuples(*[st.floats(-2, 2)] * 3),
    st.floats(1, 9),
    st.floats(-720, 720),
    st.floats(-80, 80),
)
def test_a_view_and_its_pose_agree(target, distance, azimuth, elevation) -> None:  # type: ignore[no-untyped-def]
    view = View(target=target, distance=distance, azimuth=azimuth, elevation=elevation)
    pose = view.pose()
    np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-12)
    assert np.linalg.det(pose[:3, :3]) == pytest.approx(1)
    np.testing.assert_allclose(pose, look_at(pose[:3, 3], np.array(target)), atol=1e-9)
    point = np.array(target) + (0.1, -0.2, 0.3)
    lens = Lens(width=64, height=64, fovy=45.0)
    column, row, _ = project(point[None], lens.intrinsics(), pose)[0]
    x, y = view.project(point)
    np.testing.assert_allclose([column, row], [32 + 32 * x, 32 - 32 * y], atol=1e-6)


def test_what_a_lens_refuses() -> None:
    with pytest.raises(ValueError, match="fovy between 0 and 180"):
        Lens(width=4, height=4, fovy=180.0)
    with pytest.raises(ValueError, match="must not lie along up"):
        look_at(np.array([0, 0, 2.0]), np.zeros(3))
