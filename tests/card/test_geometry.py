from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segedge.card.geometry import FITS, AxisMap, Geometry, Size, grid_from_network
from segedge.errors import UsageError

lengths = st.integers(1, 3000)
sizes = st.builds(Size, lengths, lengths)


@given(frame=sizes, network=sizes, fit=st.sampled_from(FITS), point=st.floats(-10, 4000))
def test_frame_and_network_maps_are_inverse(
    frame: Size, network: Size, fit: str, point: float
) -> None:
    geometry = Geometry.fit(frame, network, fit)  # type: ignore[arg-type]
    there, back = geometry.frame_from_network(), geometry.network_from_frame()
    assert back.y(there.y(point)) == pytest.approx(point, abs=1e-6)
    assert back.x(there.x(point)) == pytest.approx(point, abs=1e-6)


@given(frame=sizes, network=sizes, fit=st.sampled_from(FITS))
def test_frame_edges_meet_resized_edges(frame: Size, network: Size, fit: str) -> None:
    """The frame's outer edges (index -0.5 and n-0.5) lie on the edges of the resized frame."""
    geometry = Geometry.fit(frame, network, fit)  # type: ignore[arg-type]
    to_network = geometry.network_from_frame()
    assert to_network.y(-0.5) == pytest.approx(geometry.top - 0.5, abs=1e-6)
    bottom = geometry.top + geometry.resized.height - 0.5
    assert to_network.y(frame.height - 0.5) == pytest.approx(bottom, abs=1e-6)
    right = geometry.left + geometry.resized.width - 0.5
    assert to_network.x(frame.width - 0.5) == pytest.approx(right, abs=1e-6)


@given(frame=sizes, network=sizes)
def test_letterbox_lies_within_and_crop_covers(frame: Size, network: Size) -> None:
    inside = Geometry.fit(frame, network, "letterbox")
    assert inside.top >= 0
    assert inside.left >= 0
    assert inside.resized.height == network.height or inside.resized.width == network.width
    assert inside.content()[2] - inside.content()[0] == inside.resized.height
    covering = Geometry.fit(frame, network, "crop")
    assert covering.content() == (0, 0, network.height, network.width)


@given(frame=sizes, network=sizes)
def test_letterbox_is_centred(frame: Size, network: Size) -> None:
    geometry = Geometry.fit(frame, network, "letterbox")
    bottom_gap = network.height - geometry.top - geometry.resized.height
    assert 0 <= bottom_gap - geometry.top <= 1


@given(grid=sizes, network=sizes)
def test_grid_map_corners(grid: Size, network: Size) -> None:
    aligned = grid_from_network(grid, network, align_corners=True)
    assert aligned.y(0) == 0.0
    if network.height > 1:
        assert aligned.y(network.height - 1) == pytest.approx(grid.height - 1)
    half = grid_from_network(grid, network, align_corners=False)
    assert half.x(-0.5) == pytest.approx(-0.5)
    assert half.x(network.width - 0.5) == pytest.approx(grid.width - 0.5)


def test_stretch_of_equal_sizes_is_the_identity() -> None:
    geometry = Geometry.fit(Size(352, 480), Size(352, 480), "stretch")
    assert geometry.frame_from_network().y == AxisMap(1.0, 0.0)
    grid = geometry.grid_from_frame(Size(44, 60), align_corners=False)
    centers = np.arange(352) * grid.y.scale + grid.y.offset
    np.testing.assert_allclose(centers, (np.arange(352) + 0.5) / 8 - 0.5)


@pytest.mark.parametrize(
    ("text", "size"), [("512x1024", (512, 1024)), ("512", (512, 512)), ("4X6", (4, 6))]
)
def test_sizes_are_read(text: str, size: tuple[int, int]) -> None:
    parsed = Size.parse(text)
    assert (parsed.height, parsed.width) == size


@pytest.mark.parametrize("text", ["", "x", "512x", "a x b", "1x2x3", "-4x4", "0x4"])
def test_bad_sizes_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Size.parse(text)
