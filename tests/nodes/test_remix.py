"""ComfyUI's own nodes around the sampler: windows along a long canvas, a ring, scenes along time, a part repainted, a ControlNet."""

from __future__ import annotations

import importlib
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("comfy.samplers", reason="COMFYUI_PATH does not name a ComfyUI folder")

import comfy.cldm.cldm  # noqa: E402
import comfy.controlnet  # noqa: E402
import comfy.ops  # noqa: E402
import comfy.samplers  # noqa: E402
from tiny_models import UNET_CONFIG, conditioning, random_model  # noqa: E402

ROWS, COLUMNS, WINDOW, OVERLAP = 8, 32, 16, 8
ALONG_TIME = 3


@pytest.fixture(scope="module")
def core():
    """ComfyUI's own nodes."""
    nodes, windows = map(importlib.import_module, ("nodes", "comfy_extras.nodes_context_windows"))
    return SimpleNamespace(**nodes.NODE_CLASS_MAPPINGS, ContextWindowsManual=windows.ContextWindowsManualNode)


@pytest.fixture(scope="module")
def models():
    torch.manual_seed(0)
    models = {"image_model": random_model(), "audio_model": random_model()}
    for model in models.values():
        for weights in model.model.diffusion_model.parameters():
            torch.nn.init.normal_(weights, std=0.1)
    return models


@pytest.fixture(scope="module")
def sample(pack, models):
    """MultimodalKSampler's latents for noise of this seed, on an empty canvas unless another latent is given."""
    sampler = importlib.import_module(pack.__name__ + ".nodes.sampling").MultimodalKSampler
    prompts = {"image_positive": 1, "image_negative": 2, "audio_positive": 3, "audio_negative": 4}

    @torch.inference_mode()
    def run(latent=None, seed=0, denoise=1.0, **changes):
        inputs = {name: conditioning(seed) for name, seed in prompts.items()} | models
        inputs |= dict(image_cfg=3.0, audio_cfg=3.0, t_image=0.9, t_audio=1.0, audio_weight=0.5) | changes
        latent = latent or {"samples": torch.zeros(1, 4, ROWS, COLUMNS)}
        return sampler.execute(latent, seed, 4, "ddim", "ddim_uniform", denoise, **inputs).args[0]["samples"]

    return run


@pytest.fixture(scope="module")
def windowed(core):
    """The model with context windows along time."""
    known = {option.id for option in core.ContextWindowsManual.define_schema().inputs}
    newer = {"causal_window_fix": False} if "causal_window_fix" in known else {}

    def wrap(model, schedule="standard_static", closed_loop=False):
        options = dict(context_stride=1, closed_loop=closed_loop, fuse_method="pyramid", dim=ALONG_TIME, freenoise=False)
        return core.ContextWindowsManual.execute(model, WINDOW, OVERLAP, schedule, **options, **newer).args[0]

    return wrap


def noting_widths(model, widths):
    model = model.clone()
    model.set_model_unet_function_wrapper(
        lambda apply, args: (widths.add(args["input"].shape[-1]), apply(args["input"], args["timestep"], **args["c"]))[1]
    )
    return model


def far(one, other):
    return float((one - other).abs().mean()) > 1e-3


@pytest.mark.parametrize("windows_on", [set(), {"image_model"}, {"audio_model"}, {"image_model", "audio_model"}])
def test_each_model_sees_the_long_canvas_through_its_own_windows(sample, models, windowed, windows_on):
    seen = {name: set() for name in models}
    wired = {name: noting_widths(windowed(model) if name in windows_on else model, seen[name]) for name, model in models.items()}
    sample(**wired)
    assert seen == {name: {WINDOW if name in windows_on else COLUMNS} for name in models}


def test_windows_of_the_audio_model_alone_are_the_cores_own(sample, models, windowed):
    model = windowed(models["audio_model"])
    joint = sample(audio_model=model, audio_weight=1.0)
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(conditioning(3), conditioning(4))
    guider.set_cfg(3.0)
    noise = comfy.sample.prepare_noise(torch.zeros(1, 4, ROWS, COLUMNS), 0)
    sigmas = comfy.samplers.KSampler(model, 4, torch.device("cpu"), "ddim", "ddim_uniform", 1.0).sigmas
    with torch.inference_mode():
        alone = guider.sample(noise, torch.zeros_like(noise), comfy.samplers.sampler_object("ddim"), sigmas, disable_pbar=True, seed=0)
    assert torch.equal(joint, alone)


@pytest.mark.parametrize("schedule, closed_loop, is_ring", [("looped_uniform", True, True), ("standard_static", False, False)])
def test_in_a_closed_loop_of_windows_turning_the_noise_turns_the_canvas(
    sample, models, windowed, monkeypatch, schedule, closed_loop, is_ring
):
    """The windows lie a quarter of the ring apart here, so that a turn by a quarter puts each upon the next."""
    wired = {name: windowed(model, schedule, closed_loop=closed_loop) for name, model in models.items()}
    result = sample(**wired)
    prepare = comfy.sample.prepare_noise
    monkeypatch.setattr(comfy.sample, "prepare_noise", lambda *args: prepare(*args).roll(COLUMNS // 4, dims=ALONG_TIME))
    turned = sample(**wired)
    assert torch.allclose(turned, result.roll(COLUMNS // 4, dims=ALONG_TIME), atol=1e-3) == is_ring


def along_time(core, first, second):
    """Conditioning of two prompts, each for one half of the time."""
    area, combine = core.ConditioningSetAreaPercentage(), core.ConditioningCombine()
    halves = [area.append(conditioning(seed), 0.5, 1.0, x, 0.0, 1.0)[0] for seed, x in ((first, 0.0), (second, 0.5))]
    return combine.combine(*halves)[0]


def test_a_prompt_with_an_area_holds_there_and_nowhere_else(sample, core):
    def scenes(image_then, audio_then):
        return sample(
            image_positive=along_time(core, 1, image_then), image_negative=along_time(core, 2, 2),
            audio_positive=along_time(core, 3, audio_then), audio_negative=along_time(core, 4, 4),
        )  # fmt: skip

    half = COLUMNS // 2
    result = scenes(image_then=5, audio_then=6)
    for other in (scenes(image_then=7, audio_then=6), scenes(image_then=5, audio_then=7)):
        assert torch.equal(other[..., :half], result[..., :half])
        assert far(other[..., half:], result[..., half:])


def test_outside_of_a_mask_the_latents_stay(sample, core):
    before = sample()
    mask = torch.zeros(1, 8 * ROWS, 8 * COLUMNS)
    mask[..., 64:192] = 1.0
    after = sample(core.SetLatentNoiseMask().set_mask({"samples": before}, mask)[0], seed=1)
    assert torch.allclose(after[..., :8], before[..., :8], atol=1e-4) and torch.allclose(after[..., 24:], before[..., 24:], atol=1e-4)
    assert far(after[..., 8:24], before[..., 8:24])


def test_a_gray_mask_holds_the_canvas_near_what_came_in(sample, core):
    before = sample()
    distances = []
    for freedom in (0.0, 0.5, 1.0):
        masked = core.SetLatentNoiseMask().set_mask({"samples": before}, torch.full((1, 8 * ROWS, 8 * COLUMNS), freedom))[0]
        distances.append(float((sample(masked, seed=1) - before).norm()))
    assert distances[0] < 1e-3 < distances[1] < distances[2]


@pytest.fixture(scope="module")
def controlnet():
    """A small ControlNet with random weights."""
    names = ("image_size", "in_channels", "model_channels", "transformer_depth", "transformer_depth_middle", "num_res_blocks")
    names += ("channel_mult", "context_dim", "use_spatial_transformer", "use_linear_in_transformer", "legacy")
    config = {name: UNET_CONFIG[name] for name in names}
    network = comfy.cldm.cldm.ControlNet(
        **config, hint_channels=3, num_head_channels=8, dtype=torch.float32, operations=comfy.ops.manual_cast
    )
    torch.manual_seed(1)
    for weights in network.parameters():
        torch.nn.init.normal_(weights, std=0.1)
    cpu = torch.device("cpu")
    return comfy.controlnet.ControlNet(network, load_device=cpu, manual_cast_dtype=torch.float32)


def test_a_controlnet_on_the_image_side_follows_its_hint_and_leaves_the_sound_alone(sample, core, controlnet):
    hints = torch.rand(2, 1, 8 * ROWS, 8 * COLUMNS, 3, generator=torch.Generator().manual_seed(2))

    def controlled(hint, weight):
        apply = core.ControlNetApplyAdvanced()
        positive, negative = apply.apply_controlnet(conditioning(1), conditioning(2), controlnet, hint, 1.0, 0.0, 1.0)
        return sample(image_positive=positive, image_negative=negative, audio_weight=weight)

    plain, one, other = sample(), controlled(hints[0], 0.5), controlled(hints[1], 0.5)
    assert far(one, plain) and far(one, other)
    assert torch.equal(controlled(hints[0], 1.0), sample(audio_weight=1.0))
