"""EmptySpectrogramLatent, MultimodalGuider, AddExpert and MultimodalKSampler as ComfyUI calls them."""

from __future__ import annotations

import importlib

import pytest
import torch

pytest.importorskip("comfy.samplers", reason="COMFYUI_PATH does not name a ComfyUI folder")

import comfy.sample  # noqa: E402
import comfy.samplers  # noqa: E402
import latent_preview  # noqa: E402
from tiny_models import conditioning, diffusers_unet, native_model  # noqa: E402

from itsound_core.views import HALVES_END_TO_END  # noqa: E402


@pytest.fixture(scope="module")
def nodes(pack):
    return importlib.import_module(pack.__name__ + ".nodes.sampling")


@pytest.fixture(scope="module")
def unets():
    return diffusers_unet(1), diffusers_unet(2)


@pytest.fixture
def guider_inputs(unets):
    """All of MultimodalGuider's inputs at their defaults."""
    return dict(
        image_model=native_model(unets[0]),
        image_positive=conditioning(11),
        image_negative=conditioning(12),
        audio_model=native_model(unets[1]),
        audio_positive=conditioning(13),
        audio_negative=conditioning(14),
        image_cfg=10.0,
        audio_cfg=10.0,
        t_image=0.9,
        t_audio=1.0,
        audio_weight=0.5,
    )


SAMPLING = dict(seed=3, steps=4, sampler_name="ddim", scheduler="ddim_uniform", denoise=1.0)


def empty(*shape, **entries):
    return {"samples": torch.zeros(shape), **entries}


@pytest.fixture
def ksample(nodes, guider_inputs):
    """MultimodalKSampler's LATENT on an empty canvas; keywords change inputs."""

    def execute(latent_image=None, **changes):
        latent_image = empty(1, 4, 8, 16) if latent_image is None else latent_image
        with torch.inference_mode():
            return nodes.MultimodalKSampler.execute(latent_image=latent_image, **guider_inputs | SAMPLING | changes)[0]

    return execute


def sample(guider, sampler="ddim", noise_seed=3):
    latents = torch.zeros(1, 4, 8, 16)
    sigmas = comfy.samplers.calculate_sigmas(guider.model_patcher.get_model_object("model_sampling"), "ddim_uniform", 4)
    with torch.inference_mode():
        noise = comfy.sample.prepare_noise(latents, noise_seed)
        return guider.sample(noise, latents, comfy.samplers.sampler_object(sampler), sigmas, disable_pbar=True, seed=noise_seed)


GUIDER_SOCKETS = [
    *["image_model", "image_positive", "image_negative", "audio_model", "audio_positive", "audio_negative"],
    *["image_cfg", "audio_cfg", "t_image", "t_audio", "audio_weight"],
]
SOCKETS = {
    "EmptySpectrogramLatent": ["seconds", "batch_size", "view"],
    "MultimodalGuider": [*GUIDER_SOCKETS, "view"],
    "AddExpert": ["guider", "model", "positive", "negative", "cfg", "t", "weight", "view"],
    "MultimodalKSampler": [*GUIDER_SOCKETS, "latent_image", "seed", "steps", "sampler_name", "scheduler", "denoise", "view"],
}


@pytest.mark.parametrize("node_id", SOCKETS)
def test_sockets_are_the_promised_ones_in_their_order_and_all_explained(nodes, node_id):
    schema = {node.GET_SCHEMA().node_id: node.GET_SCHEMA() for node in nodes.NODES}[node_id]
    schema.validate()
    assert [socket.id for socket in schema.inputs] == SOCKETS[node_id]
    assert schema.description and all(socket.tooltip for socket in [*schema.inputs, *schema.outputs])


def test_defaults_are_the_papers(nodes):
    defaults = {socket.id: socket.default for socket in nodes.MultimodalKSampler.GET_SCHEMA().inputs if hasattr(socket, "default")}
    paper = dict(image_cfg=10.0, audio_cfg=10.0, t_image=0.9, t_audio=1.0, audio_weight=0.5, steps=100)
    assert defaults == defaults | paper | dict(sampler_name="ddim", scheduler="ddim_uniform", denoise=1.0)


@pytest.mark.parametrize(("seconds", "columns"), [(10.24, 128), (10.0, 126), (0.16, 2), (20.48, 256), (10.25, 130)])
def test_an_empty_canvas_holds_the_sound_in_even_columns(nodes, seconds, columns):
    latent = nodes.EmptySpectrogramLatent.execute(seconds, 3)[0]
    assert latent["samples"].shape == (3, 4, 32, columns) and not latent["samples"].any()


@pytest.mark.parametrize(("seconds", "side"), [(10.24, 64), (10.0, 64), (5.12, 32), (0.16, 2)])
def test_an_empty_square_holds_the_sound_in_two_rows(nodes, seconds, side):
    latent = nodes.EmptySpectrogramLatent.execute(seconds, 3, "two-row square")[0]
    assert latent["samples"].shape == (3, 4, 64, side) and not latent["samples"].any()


def test_the_sampler_node_is_the_guider_node_under_a_custom_sampler(nodes, guider_inputs, ksample):
    guider = nodes.MultimodalGuider.execute(**guider_inputs)[0]
    assert torch.equal(ksample()["samples"], sample(guider))


@pytest.mark.parametrize(("weight", "side"), [(0.0, "image"), (1.0, "audio")])
@pytest.mark.parametrize(("sampler", "scheduler", "denoise"), [("ddim", "ddim_uniform", 1.0), ("dpm_2", "karras", 0.6)])
def test_one_side_alone_equals_comfyuis_ksampler(guider_inputs, ksample, weight, side, sampler, scheduler, denoise):
    latents = torch.randn(2, 4, 8, 16, generator=torch.Generator().manual_seed(9))
    settings = dict(sampler_name=sampler, scheduler=scheduler, denoise=denoise)
    joint = ksample({"samples": latents}, audio_weight=weight, t_image=1.0, **settings)["samples"]
    model, positive, negative = (guider_inputs[f"{side}_{name}"] for name in ("model", "positive", "negative"))
    with torch.inference_mode():
        noise = comfy.sample.prepare_noise(latents, 3)
        alone = comfy.sample.sample(
            model, noise, 4, 10.0, positive=positive, negative=negative, latent_image=latents, seed=3, disable_pbar=True, **settings
        )
    assert torch.equal(joint, alone)


def test_the_sampler_nodes_view_is_the_audio_models(nodes, guider_inputs, ksample):
    canvas = nodes.EmptySpectrogramLatent.execute(1.28, 1, "two-row square")[0]
    square = ksample(canvas, audio_weight=1.0, view="two-row square")["samples"]
    with torch.inference_mode():
        noise = comfy.sample.prepare_noise(canvas["samples"], 3)
        prompts = dict(positive=guider_inputs["audio_positive"], negative=guider_inputs["audio_negative"])
        settings = dict(sampler_name="ddim", scheduler="ddim_uniform", denoise=1.0, seed=3, disable_pbar=True)
        noise, latents = (HALVES_END_TO_END.view(canvas) for canvas in (noise, canvas["samples"]))
        alone = comfy.sample.sample(guider_inputs["audio_model"], noise, 4, 10.0, **prompts, latent_image=latents, **settings)
    assert torch.equal(HALVES_END_TO_END.view(square), alone)


def test_without_a_view_every_expert_sees_the_canvas_as_it_is(nodes, guider_inputs, ksample):
    assert torch.equal(ksample(view="none")["samples"], ksample()["samples"])
    guider = nodes.MultimodalGuider.execute(**guider_inputs)[0]
    assert [expert.view for expert in guider.experts] == [nodes.VIEWS["none"]] * 2


def test_each_expert_has_its_own_view(nodes, guider_inputs):
    guider = nodes.MultimodalGuider.execute(**guider_inputs, view="two-row square")[0]
    for view in ("none", "two-row square"):
        guider = nodes.AddExpert.execute(guider, guider_inputs["audio_model"], conditioning(15), conditioning(16), 5.0, 0.8, 2.0, view)[0]
    assert [expert.view for expert in guider.experts] == [nodes.VIEWS["none"], nodes.VIEWS["two-row square"]] * 2


def test_the_same_seed_and_graph_give_the_same_bits_twice(ksample):
    assert torch.equal(ksample()["samples"], ksample()["samples"])
    assert not torch.equal(ksample()["samples"], ksample(seed=4)["samples"])


def test_batch_index_picks_the_noise_of_that_item(ksample):
    batch = ksample(empty(3, 4, 8, 16))["samples"]
    second = ksample(empty(1, 4, 8, 16, batch_index=[1]))
    torch.testing.assert_close(second["samples"], batch[1:2], rtol=1e-3, atol=1e-3)
    assert second["batch_index"] == [1]


def test_a_noise_mask_keeps_what_it_covers(ksample):
    latents, mask = torch.randn(2, 4, 8, 16), torch.zeros(2, 1, 64, 128)
    mask[..., 64:] = 1.0
    result = ksample({"samples": latents, "noise_mask": mask})["samples"]
    torch.testing.assert_close(result[..., :8], latents[..., :8], rtol=1e-4, atol=1e-4)
    assert (result[..., 8:] - latents[..., 8:]).abs().mean() > 0.1


@pytest.mark.parametrize(
    ("shape", "ratio"), [((1, 16, 8, 16), 8), ((1, 16, 8, 16), None), ((1, 128, 4, 8), 16)], ids=["Flux", "no ratio", "Flux 2"]
)
def test_an_empty_latent_of_another_model_is_repaired(ksample, shape, ratio):
    result = ksample(empty(*shape, downscale_ratio_spacial=ratio))
    assert result["samples"].shape == (1, 4, 8, 16) and result["samples"].isfinite().all()
    assert "downscale_ratio_spacial" not in result


def test_a_latent_with_content_of_another_model_is_refused(ksample):
    with pytest.raises(ValueError, match="MultimodalKSampler: the latents are 1x16x8x16; .*Flux: 16 channels"):
        ksample({"samples": torch.randn(1, 16, 8, 16)})


def test_denoise_0_returns_the_latents(ksample):
    latents = torch.randn(1, 4, 8, 16)
    assert torch.equal(ksample({"samples": latents}, denoise=0.0)["samples"], latents)


def test_progress_and_preview_follow_every_step(ksample, monkeypatch):
    prepared, steps = [], []

    def prepare_callback(model, total):
        prepared.append((model, total))
        return lambda step, x0, x, total_steps: steps.append((step, x0.shape, total_steps))

    monkeypatch.setattr(latent_preview, "prepare_callback", prepare_callback)
    ksample()
    assert [total for _, total in prepared] == [4]
    assert steps == [(step, (1, 4, 8, 16), 4) for step in range(4)]


def test_added_experts_share_the_vote(nodes, guider_inputs, unets):
    """Three experts that are one model with one prompt are that model."""
    alone = comfy.samplers.CFGGuider(guider_inputs["image_model"])
    alone.set_conds(guider_inputs["image_positive"], guider_inputs["image_negative"])
    alone.set_cfg(10.0)
    same = guider_inputs | dict(
        audio_model=native_model(unets[0]), audio_positive=guider_inputs["image_positive"], audio_negative=guider_inputs["image_negative"]
    )
    guider = nodes.MultimodalGuider.execute(**same)[0]
    for weight in (0.5, 3.0):
        model = native_model(unets[0])
        guider = nodes.AddExpert.execute(guider, model, same["image_positive"], same["image_negative"], 10.0, 1.0, weight)[0]
    assert len(guider.experts) == 4
    torch.testing.assert_close(sample(guider, "euler_cfg_pp"), sample(alone, "euler_cfg_pp"), rtol=1e-3, atol=1e-3)


def test_add_expert_does_not_change_the_guider_that_comes_in(nodes, guider_inputs):
    guider = nodes.MultimodalGuider.execute(**guider_inputs)[0]
    before = sample(guider)
    added = nodes.AddExpert.execute(guider, native_model(diffusers_unet(3)), conditioning(15), conditioning(16), 5.0, 0.8, 2.0)[0]
    assert (sample(added) - before).abs().mean() > 1e-3
    assert torch.equal(sample(guider), before) and len(guider.experts) == 2


def test_an_added_expert_that_always_runs_saves_a_guider_that_never_would(nodes, guider_inputs):
    guider = nodes.MultimodalGuider.execute(**guider_inputs | dict(t_image=0.0, t_audio=0.0))[0]
    added = nodes.AddExpert.execute(guider, native_model(diffusers_unet(3)), conditioning(15), conditioning(16), 5.0, 1.0, 1.0)[0]
    assert sample(added).isfinite().all()
    with pytest.raises(ValueError, match="MultimodalGuider: no expert takes part"):
        sample(guider)


def test_add_expert_refuses_other_guiders(nodes, guider_inputs):
    other = comfy.samplers.CFGGuider(guider_inputs["image_model"])
    with pytest.raises(ValueError, match="AddExpert: guider is a CFGGuider. Connect a MultimodalGuider"):
        nodes.AddExpert.execute(other, guider_inputs["audio_model"], [], [], 5.0, 1.0, 1.0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.5, 1001.0, "7"])
@pytest.mark.parametrize("name", ["image_cfg", "t_image", "audio_weight", "steps", "denoise", "seed"])
def test_a_number_outside_its_widget_is_refused_where_a_link_brings_it(ksample, monkeypatch, name, value):
    monkeypatch.setattr(comfy.samplers.CFGGuider, "sample", lambda *_, **__: pytest.fail("it was sampled"))
    with pytest.raises(ValueError, match=f"MultimodalKSampler: {name} is {value}; it is a (whole )?number from 0|1 to .*linked to it"):
        ksample(**{name: value})


@pytest.mark.parametrize(("seconds", "batch_size"), [(float("nan"), 1), (0.0, 1), (10.24, 0), (10.24, -1), (1e9, 1)])
def test_a_canvas_of_no_size_is_refused(nodes, seconds, batch_size):
    with pytest.raises(ValueError, match="EmptySpectrogramLatent: (seconds|batch_size) is .* number from .*linked to it"):
        nodes.EmptySpectrogramLatent.execute(seconds, batch_size)


@pytest.mark.parametrize("name", ["cfg", "t", "weight"])
def test_add_expert_refuses_numbers_outside_their_widgets(nodes, guider_inputs, name):
    guider = nodes.MultimodalGuider.execute(**guider_inputs)[0]
    numbers = dict(cfg=5.0, t=1.0, weight=1.0) | {name: float("nan")}
    with pytest.raises(ValueError, match=f"AddExpert: {name} is nan"):
        nodes.AddExpert.execute(guider, guider_inputs["audio_model"], conditioning(15), conditioning(16), **numbers)


def test_a_batch_with_another_number_of_indices_is_refused(ksample):
    with pytest.raises(ValueError, match="MultimodalKSampler: latent_image is a batch of 2, but batch_index names 3.*LatentFromBatch"):
        ksample(empty(2, 4, 8, 16, batch_index=[0, 1, 2]))


@pytest.mark.parametrize("numbers", [[-1], [0.5], ["1"], [2**40], [None]], ids=str)
def test_a_batch_index_that_is_no_number_of_a_sample_is_refused(ksample, numbers):
    with pytest.raises(
        ValueError, match=r"MultimodalKSampler: batch_index of latent_image names .*; it counts samples, from 0.*LatentFromBatch"
    ):
        ksample(empty(1, 4, 8, 16, batch_index=numbers))


@pytest.mark.parametrize("latent_image", ["latent", {"samples": None}, {"noise_mask": None}, torch.zeros(1, 4, 8, 16)], ids=str)
def test_what_is_no_latent_is_refused(ksample, latent_image):
    with pytest.raises(ValueError, match="MultimodalKSampler: latent_image is no LATENT. Connect EmptySpectrogramLatent"):
        ksample(latent_image)


def test_a_scheduler_that_cannot_make_a_single_step_is_named_with_the_remedy(ksample):
    with pytest.raises(ValueError, match="MultimodalKSampler: at steps 1 the .* scheduler kl_optimal are NaN. Set steps to 2 or more"):
        ksample(steps=1, scheduler="kl_optimal")
    assert ksample(steps=2, scheduler="kl_optimal")["samples"].isfinite().all()
    assert ksample(steps=1, scheduler="kl_optimal", denoise=0.5)["samples"].isfinite().all()


def test_the_largest_seed_of_the_widget_is_sampled(ksample):
    assert ksample(seed=0xFFFFFFFFFFFFFFFF)["samples"].isfinite().all()
