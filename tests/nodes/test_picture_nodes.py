"""The picture nodes, and what every node that takes a spectrogram refuses."""

import importlib

import pytest
import torch


@pytest.fixture(scope="module")
def nodes(pack):
    return importlib.import_module(pack.__name__ + ".nodes.picture")


def as_comfyui_runs_it(node):
    """ComfyUI executes a clone of the class, under another name."""
    return node.PREPARE_CLASS_CLONE(None)


def gray(value: float, *shape: int) -> torch.Tensor:
    return torch.full((*shape, 3), value)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_renormalizing_stretches_to_black_and_white(nodes):
    (image,) = nodes.RenormalizeSpectrogram.execute(0.2 + 0.3 * noise(2, 256, 64, 3), "gray").args
    assert image.shape == (2, 256, 64, 3)
    assert image.amin((1, 2, 3)).tolist() == [0, 0] and image.amax((1, 2, 3)).tolist() == pytest.approx([1, 1])


@pytest.mark.parametrize("colormap", ["gray", "fire", "ice", "magma", "viridis"])
def test_colours_without_stretching_keep_the_channel_mean(nodes, colormap):
    spectrogram = noise(1, 256, 64, 3)
    (image,) = nodes.RenormalizeSpectrogram.execute(spectrogram, colormap, stretch=False).args
    assert torch.allclose(image.mean(-1), spectrogram.mean(-1), atol=1e-6)


@pytest.mark.parametrize("colormap", ["fire", "ice", "magma", "viridis"])
def test_a_saved_coloured_picture_is_the_saved_gray_one_in_the_mean(nodes, colormap):
    """Rounding each channel by itself would move the mean by up to two thirds of a level."""
    spectrogram = noise(1, 256, 64, 3)
    coloured, plain = (
        (nodes.RenormalizeSpectrogram.execute(spectrogram, name, stretch=False).args[0] * 255.0) for name in (colormap, "gray")
    )
    assert (coloured[..., 0] - coloured[..., 2]).abs().max() > 20, "there is colour in it"
    for saved in (torch.floor, torch.round):
        assert torch.equal(saved(coloured).sum(dim=-1), saved(plain).sum(dim=-1))


def test_a_silent_picture_stays_black(nodes):
    (image,) = nodes.RenormalizeSpectrogram.execute(gray(0.0, 1, 256, 64), "magma").args
    assert image.eq(0).all()


def test_saving_as_comfyui_saves_loses_no_level_of_a_gray_picture(nodes):
    """SaveImage truncates: a gray that comes out a rounding error too low would lose a whole level."""
    levels = torch.arange(256, dtype=torch.uint8).repeat(256, 1)[None, :, :, None].expand(-1, -1, -1, 3)
    (image,) = nodes.RenormalizeSpectrogram.execute(levels / 255.0, "gray", stretch=False).args
    assert torch.equal((image * 255).to(torch.uint8), levels)


def test_alpha_is_not_heard(nodes):
    spectrogram = noise(1, 256, 64, 3)
    with_alpha = torch.cat([spectrogram, torch.zeros(1, 256, 64, 1)], dim=-1)
    (expected,), (image,) = (nodes.RenormalizeSpectrogram.execute(x, "gray", stretch=False).args for x in (spectrogram, with_alpha))
    assert torch.equal(image, expected)


BAD_PICTURES = {
    "height not 256": (gray(0.5, 1, 512, 512), r"512 x 512 pixels; a spectrogram is 256 high.*AudioToSpectrogram"),
    "NaN": (gray(float("nan"), 1, 256, 64), r"49152 values that are NaN or infinite.*--fp32-vae"),
    "infinite": (gray(float("inf"), 1, 256, 64), r"NaN or infinite.*weight_dtype"),
    "8-bit values": (gray(128.0, 1, 256, 64), r"values from 128 to 128; an IMAGE lies in 0\.\.1.*divide 8-bit values by 255"),
    "negative": (gray(-0.75, 1, 256, 64), r"values from -0\.75 to -0\.75.*in the node before"),
    "too narrow": (gray(0.5, 1, 256, 4), r"4 columns wide \(0\.04 s\); at least 6 are needed.*wider"),
    "two channels": (torch.zeros(1, 256, 64, 2), r"shape \(1, 256, 64, 2\).*1, 3 or 4 channels"),
    "empty batch": (torch.zeros(0, 256, 64, 3), r"shape \(0, 256, 64, 3\)"),
}


@pytest.mark.parametrize("case", BAD_PICTURES)
def test_a_picture_that_is_no_spectrogram_is_refused_with_culprit_and_remedy(nodes, case):
    spectrogram, message = BAD_PICTURES[case]
    with pytest.raises(ValueError, match="RenormalizeSpectrogram: spectrogram .*" + message):
        as_comfyui_runs_it(nodes.RenormalizeSpectrogram).execute(spectrogram, "gray")


def test_rounding_errors_just_outside_the_range_are_accepted(nodes):
    (image,) = nodes.RenormalizeSpectrogram.execute(gray(1.0 + 1e-3, 1, 256, 64), "gray", stretch=False).args
    assert image.max() == 1


def test_the_halves_of_a_square_are_laid_end_to_end_and_back(nodes):
    square = noise(2, 512, 512, 3)
    (spectrogram,) = nodes.ViewCanvas.execute(square, "two-row square").args
    assert spectrogram.shape == (2, 256, 1024, 3)
    assert torch.equal(spectrogram[:, :, :512], square[:, :256]) and torch.equal(spectrogram[:, :, 512:], square[:, 256:])
    (again,) = nodes.ViewCanvas.execute(spectrogram, "two-row square", inverse=True).args
    assert torch.equal(again, square)


def test_view_none_leaves_the_picture_as_it_is(nodes):
    spectrogram = noise(1, 256, 64, 3)
    assert torch.equal(nodes.ViewCanvas.execute(spectrogram, "none").args[0], spectrogram)


@pytest.mark.parametrize(
    ("shape", "view", "inverse", "rows"),
    [
        ((256, 1024), "two-row square", False, 512),
        ((512, 511), "two-row square", False, 512),
        ((512, 512), "two-row square", True, 256),
        ((256, 1023), "two-row square", True, 256),
        ((512, 512), "none", False, 256),
    ],
)
def test_a_canvas_that_the_view_does_not_fit_is_refused(nodes, shape, view, inverse, rows):
    with pytest.raises(
        ValueError, match=rf"ViewCanvas: canvas is {shape[1]} x {shape[0]} .*{view}.* takes {rows} rows.*EmptySpectrogramLatent"
    ):
        nodes.ViewCanvas.execute(gray(0.5, 1, *shape), view, inverse)


def test_a_qr_code_scaled_bicubically_is_clamped(nodes):
    """The worst case of a resize: 1.4 and -0.4 beside a single module."""
    import comfy.utils

    code = (torch.rand(1, 1, 29, 29, generator=torch.Generator().manual_seed(0)) > 0.5).float().expand(-1, 3, -1, -1)
    scaled = comfy.utils.common_upscale(code, 256, 256, "bicubic", "disabled").movedim(1, -1)
    assert scaled.max() > 1.3
    (shown,) = nodes.RenormalizeSpectrogram.execute(scaled, "gray", stretch=False).args
    torch.testing.assert_close(shown, scaled.clamp(0, 1), atol=1e-6, rtol=0)


@pytest.mark.parametrize("method", ["bicubic", "lanczos"])
def test_a_picture_that_a_resize_made_overshoot_is_clamped(nodes, method):
    """Case 04: black on white, scaled by ComfyUI's own node, goes to 1.1 and below 0."""
    import comfy.utils

    edges = torch.zeros(1, 1, 64, 64)
    edges[..., ::7, :] = 1.0
    scaled = comfy.utils.common_upscale(edges.expand(-1, 3, -1, -1), 320, 256, method, "disabled").movedim(1, -1)
    scaled = scaled + (scaled - 0.5) * 0.15 if method == "lanczos" else scaled  # Pillow's clips by itself
    assert scaled.max() > 1.02
    (shown,) = nodes.RenormalizeSpectrogram.execute(scaled, "gray", stretch=False).args
    torch.testing.assert_close(shown, scaled.clamp(0, 1), atol=1e-6, rtol=0)
