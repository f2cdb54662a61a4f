"""The joint guider against the core's loop, against ComfyUI's own guiders, and under everything a graph can put on one side."""

from __future__ import annotations

import importlib
from functools import partial

import pytest
import torch

pytest.importorskip("comfy.samplers", reason="COMFYUI_PATH does not name a ComfyUI folder")

import comfy.controlnet  # noqa: E402
import comfy.hooks  # noqa: E402
import comfy.latent_formats  # noqa: E402
import comfy.model_management  # noqa: E402
import comfy.model_patcher  # noqa: E402
import comfy.model_sampling  # noqa: E402
import comfy.nested_tensor  # noqa: E402
import comfy.samplers  # noqa: E402
import comfy.sd  # noqa: E402
import comfy.supported_models  # noqa: E402
import comfy_extras.nodes_context_windows as context_windows  # noqa: E402
import comfy_extras.nodes_custom_sampler as custom_sampler  # noqa: E402
import comfy_extras.nodes_easycache as easycache  # noqa: E402
import comfy_extras.nodes_model_advanced as model_advanced  # noqa: E402
from comfy.patcher_extension import CallbacksMP, WrappersMP  # noqa: E402
from tiny_models import conditioning, diffusers_unet, embeddings, native_model, random_model  # noqa: E402

from itsound_core.composition import Expert, compose  # noqa: E402
from itsound_core.sampling import STABLE_DIFFUSION, ddim, guided  # noqa: E402
from itsound_core.views import HALVES_END_TO_END  # noqa: E402

SHAPE = (1, 4, 8, 16)
TWO_ROWS = (1, 4, 64, 8)  # of 32 x 8 each
SCALE = 0.18215  # of Stable Diffusion's latents
IMAGE_PROMPT, IMAGE_NULL, AUDIO_PROMPT, AUDIO_NULL = 11, 12, 13, 14  # seeds of embeddings


@pytest.fixture(scope="module")
def guider_module(pack):
    return importlib.import_module(pack.__name__ + ".bridge.guider")


@pytest.fixture(scope="module")
def unets():
    return diffusers_unet(1), diffusers_unet(2)


@pytest.fixture
def image_model(unets):
    return native_model(unets[0])


@pytest.fixture
def audio_model(unets):
    return native_model(unets[1])


@pytest.fixture
def joint(guider_module, image_model, audio_model):
    """Joint guider of the two models; keywords change an expert's fields, as image_t=0.9 or audio_positive=[...]."""

    def build(image=None, audio=None, weight=0.5, **fields):
        def expert(name, model, positive, negative, own_weight):
            known = dict(cfg=7.0, t=1.0, positive=conditioning(positive), negative=conditioning(negative), weight=own_weight)
            known |= {key.removeprefix(f"{name}_"): value for key, value in fields.items() if key.startswith(f"{name}_")}
            return guider_module.ModelExpert("MultimodalGuider", name, model, **known)

        return guider_module.JointGuider(
            [
                expert("image", image or image_model, IMAGE_PROMPT, IMAGE_NULL, 1.0 - weight),
                expert("audio", audio or audio_model, AUDIO_PROMPT, AUDIO_NULL, weight),
            ]
        )

    return build


def single(model, positive, negative, cfg=7.0):
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(positive, negative)
    guider.set_cfg(cfg)
    return guider


def noise(seed=0, batch=1):
    return torch.randn(batch, *SHAPE[1:], generator=torch.Generator().manual_seed(seed))


def sigmas_of(model, steps=4, scheduler="ddim_uniform"):
    return comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), scheduler, steps)


@torch.inference_mode()
def run(guider, start=None, sampler="ddim", sigmas=None, latents=None, **options):
    start = noise() if start is None else start
    sigmas = sigmas_of(guider.model_patcher) if sigmas is None else sigmas
    latents = torch.zeros_like(start) if latents is None else latents
    return guider.sample(start, latents, comfy.samplers.sampler_object(sampler), sigmas, disable_pbar=True, seed=5, **options)


def relative(ours, theirs):
    return float((ours - theirs).norm() / theirs.norm())


def count_calls(model, calls):
    """Note the sigma of each evaluation of this model's UNet."""
    model = model.clone()
    model.set_model_unet_function_wrapper(
        lambda apply, args: (calls.append(float(args["timestep"][0])), apply(args["input"], args["timestep"], **args["c"]))[1]
    )
    return model


def lora(strength=30.0):
    """A LoRA of one attention projection in the format of kohya's scripts."""
    name, generator = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_v", torch.Generator().manual_seed(3)
    return {
        f"{name}.lora_up.weight": strength * torch.randn(64, 2, generator=generator),
        f"{name}.lora_down.weight": torch.randn(2, 64, generator=generator),
    }


def with_lora(model):
    patched, _ = comfy.sd.load_lora_for_models(model, None, lora(), 1.0, 0.0)
    assert patched is not None
    return patched


# Agreement with the method and with ComfyUI's own guiders


def test_ddim_agrees_with_the_core_loop_once_both_known_differences_are_removed(joint, unets, image_model, record_property):
    steps, start = 20, noise()
    experts = [
        Expert(guided(unets[0], embeddings(IMAGE_PROMPT), embeddings(IMAGE_NULL), 7.0), 0.4, start=900),
        Expert(guided(unets[1], embeddings(AUDIO_PROMPT), embeddings(AUDIO_NULL), 7.0), 0.6, start=1000),
    ]
    expected = ddim(partial(compose, experts), start, steps)

    guider = joint(weight=0.6, image_t=0.9)
    sigmas = sigmas_of(image_model, steps)
    first, last = float(sigmas[0]), STABLE_DIFFUSION.sigma(0)
    paper_start = start * (1 + first**2) ** 0.5 / first
    paper_sigmas = torch.cat([sigmas[:-1], torch.tensor([last])])
    to_paper_scale = SCALE / (1 + last**2) ** 0.5

    differences = {
        "as ComfyUI samples": relative(run(guider, start, sigmas=sigmas) * SCALE, expected),
        "start noise alone": relative(run(guider, start, sigmas=paper_sigmas) * to_paper_scale, expected),
        "last sigma alone": relative(run(guider, paper_start, sigmas=sigmas) * SCALE, expected),
        "both removed": relative(run(guider, paper_start, sigmas=paper_sigmas) * to_paper_scale, expected),
    }
    for name, size in differences.items():
        record_property(name, size)
        print(f"{name}: {size:.2e}")
    assert differences["both removed"] < 1e-5
    assert differences["start noise alone"] > 1e-4 and differences["last sigma alone"] > 1e-4


def test_audio_weight_0_is_the_image_model_alone(joint, image_model):
    alone = run(single(image_model, conditioning(IMAGE_PROMPT), conditioning(IMAGE_NULL)))
    assert torch.equal(run(joint(weight=0.0)), alone)


def test_audio_weight_1_is_the_audio_model_alone(joint, audio_model):
    alone = run(single(audio_model, conditioning(AUDIO_PROMPT), conditioning(AUDIO_NULL)))
    assert torch.equal(run(joint(weight=1.0)), alone)


@pytest.mark.skipif(not hasattr(custom_sampler, "Guider_DualModel"), reason="this ComfyUI has no DualModelGuider")
def test_unguided_halves_are_the_cores_dual_model_guider_at_cfg_half(joint, image_model, audio_model):
    dual = custom_sampler.Guider_DualModel(image_model, audio_model)
    dual.set_conds(conditioning(IMAGE_PROMPT), conditioning(AUDIO_PROMPT))
    dual.set_cfg(0.5)
    assert relative(run(joint(image_cfg=1.0, audio_cfg=1.0)), run(dual)) < 1e-5


def test_the_image_unet_is_not_evaluated_before_its_start(joint, image_model, audio_model):
    image_calls, audio_calls = [], []
    guider = joint(count_calls(image_model, image_calls), count_calls(audio_model, audio_calls), image_t=0.9)
    sigmas = sigmas_of(image_model, 20)
    run(guider, sigmas=sigmas)
    assert audio_calls == pytest.approx(sigmas[:20].tolist())
    assert image_calls == pytest.approx(sigmas[2:20].tolist())  # timesteps 951 and 901 are the first tenth


@pytest.mark.parametrize(("scheduler", "steps"), [("ddim_uniform", 32), ("simple", 32), ("sgm_uniform", 25), ("beta", 50), ("karras", 20)])
@pytest.mark.parametrize("t", [0.9, 0.57])
def test_an_expert_votes_at_timesteps_up_to_its_own(joint, image_model, scheduler, steps, t):
    calls = []
    sigmas = sigmas_of(image_model, steps, scheduler)
    run(joint(count_calls(image_model, calls), image_t=t), sigmas=sigmas)
    trained = torch.tensor([STABLE_DIFFUSION.sigma(timestep) for timestep in range(1000)], dtype=torch.float64)
    levels = torch.searchsorted(trained.log(), sigmas[:-1].double().log() - 1e-6)  # the first timestep with as much noise
    assert len(calls) == int((levels <= 1000 * t).sum())


def test_32_uniform_steps_ask_the_image_model_30_times_as_the_core_loop_does(joint, image_model):
    calls, asked = [], []
    run(joint(count_calls(image_model, calls), image_t=0.9), sigmas=sigmas_of(image_model, 32))
    experts = [Expert(lambda x, t: (asked.append(int(t)), x)[1], start=900), Expert(lambda x, t: x, start=1000)]
    ddim(partial(compose, experts), noise(), 32)
    assert len(calls) == len(asked) == 30 and asked[0] == 900


@pytest.mark.parametrize("t", [0.57, 0.9])
def test_models_that_number_their_timesteps_otherwise_start_at_the_same_noise(guider_module, image_model, t):
    """A flow-matching model's timestep is its sigma x 1000; a distilled one has 50 of the 1000 that it was made from."""

    def start(model):
        return guider_module.ModelExpert("test", "image", model, [], [], 1.0, t, 1.0).start

    assert start(image_model) == pytest.approx(STABLE_DIFFUSION.sigma(round(1000 * t)), rel=1e-4)
    flow = with_sampling(image_model, comfy.model_sampling.CONST, comfy.model_sampling.ModelSamplingDiscreteFlow)
    assert start(flow) == pytest.approx(t, rel=1e-4)
    distilled = with_sampling(image_model, comfy.model_sampling.EPS, model_advanced.ModelSamplingDiscreteDistilled)
    assert start(distilled) == pytest.approx(STABLE_DIFFUSION.sigma(round(1000 * t)), rel=0.01)


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_an_expert_of_weight_0_is_never_evaluated(joint, image_model, audio_model, weight):
    calls = {0.0: [], 1.0: []}
    run(joint(count_calls(image_model, calls[1.0]), count_calls(audio_model, calls[0.0]), weight=weight))
    assert calls[weight] == [] and len(calls[1.0 - weight]) == 4


def test_the_start_is_a_noise_level_whatever_the_scheduler(joint, image_model):
    calls = []
    sigmas = sigmas_of(image_model, 12, "karras")
    run(joint(count_calls(image_model, calls), image_t=0.5), sigmas=sigmas)
    limit = image_model.get_model_object("model_sampling").percent_to_sigma(0.5)
    assert calls == pytest.approx([s for s in sigmas[:-1].tolist() if s <= limit]) and 0 < len(calls) < 12


def test_there_is_no_warm_start_when_sampling_starts_below_it(joint, image_model):
    calls = []
    sigmas = sigmas_of(image_model, 10)[5:]
    run(joint(count_calls(image_model, calls), image_t=0.9), sigmas=sigmas, latents=noise(1))
    assert len(calls) == 5


def test_item_of_a_batch_equals_the_run_of_its_own_noise(joint):
    batch = noise(batch=3)
    together = run(joint(image_t=0.9), batch)
    for item in range(3):
        assert relative(together[item : item + 1], run(joint(image_t=0.9), batch[item : item + 1])) < 1e-4


def test_a_batch_larger_than_the_conditioning_repeats_the_prompts(joint):
    prompts = [[embeddings(21, batch=2), {}]]
    batch = noise(batch=4)
    together = run(joint(audio_positive=prompts), batch)
    own = run(joint(audio_positive=[[prompts[0][0][1:], {}]]), batch[3:])
    assert relative(together[3:], own) < 1e-4


def test_the_same_seed_gives_the_same_bits_twice(joint):
    assert torch.equal(run(joint(), sampler="dpmpp_2m_sde"), run(joint(), sampler="dpmpp_2m_sde"))
    guider = joint()
    assert torch.equal(run(guider, sampler="euler_ancestral"), run(guider, sampler="euler_ancestral"))


# Samplers and schedulers


@pytest.mark.parametrize("sampler", comfy.samplers.KSampler.SAMPLERS)
def test_under_every_sampler_the_product_of_a_model_with_itself_is_that_model(joint, unets, image_model, sampler):
    positive, negative = conditioning(IMAGE_PROMPT), conditioning(IMAGE_NULL)
    twice = joint(audio=native_model(unets[0]), audio_positive=positive, audio_negative=negative)
    assert relative(run(twice, sampler=sampler), run(single(image_model, positive, negative), sampler=sampler)) < 1e-3


@pytest.mark.parametrize("sampler", [name for name in comfy.samplers.KSampler.SAMPLERS if "cfg_pp" in name])
def test_samplers_that_read_the_unguided_estimate_work_through_the_warm_start(joint, sampler):
    assert run(joint(image_t=0.7), sampler=sampler).isfinite().all()


@pytest.mark.parametrize(("image_t", "image_share"), [(1.0, 0.4), (0.7, 0.0)])
def test_a_samplers_post_cfg_function_gets_the_joint_estimates(joint, image_model, audio_model, image_t, image_share):
    terms = ("denoised", "cond_denoised", "uncond_denoised")

    def estimates(guider):
        seen = {}

        def sample_once(model, x, sigmas, extra_args, **_):
            def note(args):
                seen.update(args)
                return args["denoised"]

            options = comfy.model_patcher.set_model_options_post_cfg_function(extra_args["model_options"].copy(), note, True)
            return model(x, sigmas[:1], **extra_args | {"model_options": options})

        with torch.inference_mode():
            sampler = comfy.samplers.KSAMPLER(sample_once)
            guider.sample(noise(), torch.zeros(SHAPE), sampler, sigmas_of(guider.model_patcher), disable_pbar=True, seed=5)
        return seen

    image = estimates(single(image_model, conditioning(IMAGE_PROMPT), conditioning(IMAGE_NULL)))
    audio = estimates(single(audio_model, conditioning(AUDIO_PROMPT), conditioning(AUDIO_NULL)))
    both = estimates(joint(weight=0.6, image_t=image_t))
    for term in terms:
        torch.testing.assert_close(both[term], image_share * image[term] + (1 - image_share) * audio[term])


@pytest.mark.parametrize("scheduler", comfy.samplers.KSampler.SCHEDULERS)
def test_every_scheduler_works(joint, image_model, scheduler):
    assert run(joint(image_t=0.9), sigmas=sigmas_of(image_model, 4, scheduler)).isfinite().all()


# Masks and latents


def test_a_masked_part_keeps_the_latents_that_came_in(joint):
    latents, mask = noise(1), torch.zeros(1, 8, 16)
    mask[:, :, 8:] = 1.0
    result = run(joint(), latents=latents, denoise_mask=mask)
    torch.testing.assert_close(result[..., :8], latents[..., :8], rtol=1e-4, atol=1e-4)
    assert relative(result[..., 8:], latents[..., 8:]) > 0.1


def test_latents_that_came_in_shape_the_result_of_a_partial_run(joint, image_model):
    sigmas = sigmas_of(image_model, 10)[7:]
    assert relative(run(joint(), latents=noise(1), sigmas=sigmas), run(joint(), latents=noise(2), sigmas=sigmas)) > 0.1


def test_no_steps_return_the_latents(joint):
    latents = noise(1)
    assert torch.equal(run(joint(), latents=latents, sigmas=torch.FloatTensor([])), latents)


# What a graph can put on one side


def test_a_lora_changes_its_own_side_only(joint, image_model, audio_model):
    plain, patched = with_lora(image_model), with_lora(audio_model)
    assert torch.equal(run(joint(image=plain, weight=1.0)), run(joint(weight=1.0)))
    assert torch.equal(run(joint(audio=patched, weight=0.0)), run(joint(weight=0.0)))
    alone = run(single(patched, conditioning(AUDIO_PROMPT), conditioning(AUDIO_NULL)))
    assert torch.equal(run(joint(audio=patched, weight=1.0)), alone)
    assert relative(run(joint(audio=patched)), run(joint())) > 1e-3


@pytest.mark.parametrize("side", ["image", "audio"])
def test_a_lora_hook_works_on_either_side_and_leaves_no_trace(joint, image_model, audio_model, side):
    model = dict(image=image_model, audio=audio_model)[side]
    positive, negative = dict(image=(IMAGE_PROMPT, IMAGE_NULL), audio=(AUDIO_PROMPT, AUDIO_NULL))[side]
    hooked = comfy.hooks.set_hooks_for_conditioning(conditioning(positive), comfy.hooks.create_hook_lora(lora(), 1.0, 0.0))
    plain = run(joint())
    alone = run(single(model, hooked, conditioning(negative)))
    weight = dict(image=0.0, audio=1.0)[side]
    assert torch.equal(run(joint(weight=weight, **{f"{side}_positive": hooked})), alone)
    assert relative(run(joint(**{f"{side}_positive": hooked})), plain) > 1e-3
    assert torch.equal(run(joint()), plain)


class ConstantControl(comfy.controlnet.ControlBase):
    """Adds a constant to the UNet's middle block, and brings a model to load."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.cleaned = 0

    def get_models(self):
        return [self.model]

    def get_control(self, x_noisy, t, cond, batched_number, transformer_options):
        return {"input": [], "middle": [torch.ones(len(x_noisy), 64, x_noisy.shape[2] // 2, x_noisy.shape[3] // 2)], "output": []}

    def copy(self):
        return self

    def cleanup(self):
        super().cleanup()
        self.cleaned += 1


def test_a_controlnet_on_the_audio_side_controls_it_alone_and_is_loaded_with_both_models(joint, image_model, audio_model, monkeypatch):
    control = ConstantControl(random_model())
    controlled = conditioning(AUDIO_PROMPT, control=control, control_apply_to_uncond=True)
    loads = []
    load = comfy.model_management.load_models_gpu
    monkeypatch.setattr(comfy.model_management, "load_models_gpu", lambda models, **kw: (loads.append(models), load(models, **kw))[1])
    result = run(joint(weight=1.0, audio_positive=controlled))
    assert len(loads) == 1
    assert {id(model.model) for model in loads[0]} == {id(model.model) for model in (image_model, audio_model, control.model)}
    assert control.cleaned > 0
    assert torch.equal(result, run(single(audio_model, controlled, conditioning(AUDIO_NULL))))
    assert torch.equal(run(joint(weight=0.0, audio_positive=controlled)), run(joint(weight=0.0)))


def test_a_predict_noise_wrapper_sees_its_own_guider_and_steps(joint, image_model, audio_model):
    seen = {"image": [], "audio": []}

    def watched(model, side):
        def wrapper(executor, *args, **kwargs):
            seen[side].append(executor.class_obj.cfg)
            return executor(*args, **kwargs)

        model = model.clone()
        model.add_wrapper(WrappersMP.PREDICT_NOISE, wrapper)
        return model

    run(joint(watched(image_model, "image"), watched(audio_model, "audio"), image_t=0.7, image_cfg=3.0, audio_cfg=9.0))
    assert seen == {"image": [3.0] * 3, "audio": [9.0] * 4}


def test_wrappers_of_one_side_do_not_touch_the_other(joint, image_model, audio_model):
    kinds = [WrappersMP.OUTER_SAMPLE, WrappersMP.CALC_COND_BATCH, WrappersMP.APPLY_MODEL, WrappersMP.DIFFUSION_MODEL]
    counts = {"image": dict.fromkeys(kinds, 0), "audio": dict.fromkeys(kinds, 0)}

    def watched(model, side):
        def wrapper(kind):
            def count(executor, *args, **kwargs):
                counts[side][kind] += 1
                return executor(*args, **kwargs)

            return count

        model = model.clone()
        for kind in kinds:
            model.add_wrapper(kind, wrapper(kind))
        return model

    run(joint(watched(image_model, "image"), watched(audio_model, "audio"), image_t=0.7))
    assert list(counts["image"].values()) == [1, 3, 3, 3]
    assert list(counts["audio"].values()) == [1, 4, 4, 4]


def test_both_sides_know_the_schedule(joint, image_model, audio_model):
    known = {}

    def watched(model, side):
        def wrapper(executor, *args, **kwargs):
            known[side] = kwargs.get("transformer_options", args[-1])["sample_sigmas"]
            return executor(*args, **kwargs)

        model = model.clone()
        model.add_wrapper(WrappersMP.DIFFUSION_MODEL, wrapper)
        return model

    sigmas = sigmas_of(image_model)
    run(joint(watched(image_model, "image"), watched(audio_model, "audio")), sigmas=sigmas)
    assert torch.equal(known["image"], sigmas) and torch.equal(known["audio"], sigmas)


@pytest.mark.parametrize("node", [easycache.EasyCacheNode, easycache.LazyCacheNode])
def test_the_cores_step_caches_work_on_the_audio_side(joint, audio_model, image_model, node):
    cached = node.execute(audio_model, reuse_threshold=3.0, start_percent=0.0, end_percent=1.0, verbose=False)[0]
    sigmas, calls = sigmas_of(image_model, 10), []
    result = run(joint(audio=count_calls(cached, calls), weight=1.0), sigmas=sigmas)
    calls_alone = []
    alone = run(single(count_calls(cached, calls_alone), conditioning(AUDIO_PROMPT), conditioning(AUDIO_NULL)), sigmas=sigmas)
    assert torch.equal(result, alone) and calls == calls_alone


def test_sampling_leaves_the_users_models_as_they_were(joint, image_model, audio_model):
    run(joint())
    for model in (image_model, audio_model):
        assert model.additional_models == {} and model.model_options == {"transformer_options": {}} and model.hook_patches == {}


def test_an_interrupt_stops_sampling_and_the_next_run_is_clean(joint):
    guider, expected, steps = joint(), run(joint()), []

    def interrupt(step, x0, x, total):
        steps.append(step)
        comfy.model_management.interrupt_current_processing()

    with pytest.raises(comfy.model_management.InterruptProcessingException):
        run(guider, callback=interrupt)
    assert steps == [0]
    assert guider.model_patcher.additional_models == {}
    assert torch.equal(run(guider), expected)


# Views


def two_row_noise(seed=0):
    return torch.randn(TWO_ROWS, generator=torch.Generator().manual_seed(seed))


def seen_alone(model, positive, start=None, latents=None, **options):
    """What this model alone makes of the canvas as it sees it, laid back."""
    start = HALVES_END_TO_END.view(two_row_noise() if start is None else start)
    latents = None if latents is None else HALVES_END_TO_END.view(latents)
    return HALVES_END_TO_END.inverse_view(run(single(model, positive, conditioning(AUDIO_NULL)), start, latents=latents, **options))


@pytest.mark.parametrize("sampler", ["ddim", "euler_cfg_pp"])
def test_through_the_square_view_the_audio_model_works_on_the_halves_end_to_end(joint, audio_model, sampler):
    guider = joint(weight=1.0, audio_view=HALVES_END_TO_END)
    assert torch.equal(run(guider, two_row_noise(), sampler), seen_alone(audio_model, conditioning(AUDIO_PROMPT), sampler=sampler))


def test_through_the_square_view_the_image_model_sees_the_square(joint, image_model):
    alone = run(single(image_model, conditioning(IMAGE_PROMPT), conditioning(IMAGE_NULL)), two_row_noise())
    assert torch.equal(run(joint(weight=0.0, audio_view=HALVES_END_TO_END), two_row_noise()), alone)


def test_under_a_view_ddim_with_warm_start_agrees_with_the_core_loop(joint, unets, image_model):
    steps, start = 4, two_row_noise()
    experts = [
        Expert(guided(unets[0], embeddings(IMAGE_PROMPT), embeddings(IMAGE_NULL), 7.0), 0.4, start=600),
        Expert(guided(unets[1], embeddings(AUDIO_PROMPT), embeddings(AUDIO_NULL), 7.0), 0.6, start=1000, view=HALVES_END_TO_END),
    ]
    expected = ddim(partial(compose, experts), start, steps)
    first, last = float(sigmas_of(image_model, steps)[0]), STABLE_DIFFUSION.sigma(0)
    sigmas = torch.cat([sigmas_of(image_model, steps)[:-1], torch.tensor([last])])
    guider = joint(weight=0.6, image_t=0.6, audio_view=HALVES_END_TO_END)
    result = run(guider, start * (1 + first**2) ** 0.5 / first, sigmas=sigmas) * SCALE / (1 + last**2) ** 0.5
    assert relative(result, expected) < 1e-5


def left_half(**options):
    mask = torch.zeros(1, 256, 128)
    mask[..., :64] = 1.0
    return dict(mask=mask, **options)


@pytest.mark.parametrize(
    "options",
    [left_half(), left_half(set_area_to_bounds=True), dict(area=("percentage", 1.0, 0.5, 0.0, 0.5)), dict(area=(32, 8, 0, 8))],
    ids=["mask", "mask's bounds", "area in percent", "area"],
)
def test_areas_and_masks_of_the_audio_side_lie_on_the_sound(joint, audio_model, options):
    positive = [*conditioning(AUDIO_PROMPT, **options), *conditioning(21)]
    result = run(joint(weight=1.0, audio_view=HALVES_END_TO_END, audio_positive=positive), two_row_noise())
    assert torch.equal(result, seen_alone(audio_model, positive))
    assert relative(result, seen_alone(audio_model, [*conditioning(AUDIO_PROMPT), *conditioning(21)])) > 1e-3


def test_a_controlnet_of_the_audio_side_sees_the_sound(joint, audio_model):
    shapes = []

    class Watching(ConstantControl):
        def get_control(self, x_noisy, *args):
            shapes.append(tuple(x_noisy.shape[2:]))
            return super().get_control(x_noisy, *args)

    controlled = conditioning(AUDIO_PROMPT, control=Watching(random_model()), control_apply_to_uncond=True)
    result = run(joint(weight=1.0, audio_view=HALVES_END_TO_END, audio_positive=controlled), two_row_noise())
    assert set(shapes) == {(32, 16)}
    assert torch.equal(result, seen_alone(audio_model, controlled))


def test_latents_and_mask_that_come_in_lie_on_the_canvas(joint, audio_model):
    latents, mask = two_row_noise(1), torch.zeros(1, 64, 8)
    mask[:, 32:] = 1.0
    sigmas = sigmas_of(audio_model, 8)[4:]
    guider = joint(weight=1.0, audio_view=HALVES_END_TO_END)
    result = run(guider, two_row_noise(), "euler", latents=latents, denoise_mask=mask, sigmas=sigmas)  # ddim draws noise under a mask
    torch.testing.assert_close(result[..., :32, :], latents[..., :32, :], rtol=1e-4, atol=1e-4)
    seen = dict(sampler="euler", latents=latents, sigmas=sigmas, denoise_mask=HALVES_END_TO_END.view(mask))
    assert torch.equal(result, seen_alone(audio_model, conditioning(AUDIO_PROMPT), **seen))


def test_a_wide_canvas_under_the_square_view_is_refused(joint):
    with pytest.raises(
        ValueError, match=r"MultimodalGuider: the latents are 1x4x32x128; .* audio model would see 16 x 256.* 512 pixels high"
    ):
        run(joint(audio_view=HALVES_END_TO_END), torch.randn(1, 4, 32, 128))


# Context windows


def windowed(model, length=8, overlap=4, dim=3, schedule="standard_static"):
    """The model as ContextWindowsManual makes it: windows of so many latents along the width."""
    settings = dict(context_length=length, context_overlap=overlap, context_schedule=schedule, context_stride=1, closed_loop=False)
    return context_windows.ContextWindowsManualNode.execute(model, **settings, fuse_method="pyramid", dim=dim, freenoise=False)[0]


@pytest.mark.parametrize("sides", [("image",), ("audio",), ("image", "audio")])
@pytest.mark.parametrize("sampler", ["ddim", "euler_cfg_pp"])
def test_with_context_windows_each_item_of_a_batch_is_as_if_alone(joint, image_model, audio_model, sides, sampler):
    models = {side: windowed(model) for side, model in (("image", image_model), ("audio", audio_model)) if side in sides}
    batch = noise(batch=3)
    together = run(joint(**models, image_t=0.9), batch, sampler)
    for item in range(3):
        assert relative(together[item : item + 1], run(joint(**models, image_t=0.9), batch[item : item + 1], sampler)) < 1e-4


def test_with_context_windows_each_item_of_a_batch_has_its_own_prompt(joint, audio_model):
    prompts, batch, audio = torch.cat([embeddings(21), embeddings(22)]), noise(batch=3), windowed(audio_model)
    together = run(joint(audio=audio, weight=1.0, audio_positive=[[prompts, {}]]), batch)
    for item, prompt in enumerate((21, 22, 21)):
        alone = run(joint(audio=audio, weight=1.0, audio_positive=conditioning(prompt)), batch[item : item + 1])
        assert relative(together[item : item + 1], alone) < 1e-4


def test_a_canvas_within_one_context_window_is_sampled_as_one_batch(joint, audio_model):
    calls = []
    audio = count_calls(windowed(audio_model, length=32), calls)
    assert torch.equal(run(joint(audio=audio), noise(batch=3)), run(joint(), noise(batch=3)))
    assert len(calls) == 4


@pytest.mark.parametrize("schedule", ["standard_static", "standard_uniform", "looped_uniform"])
@pytest.mark.parametrize("overlap", [8, 20])
@pytest.mark.parametrize("side", ["image", "audio"])
def test_context_windows_that_overlap_by_their_whole_length_are_refused(joint, image_model, side, overlap, schedule):
    guider = joint(**{side: windowed(image_model, overlap=overlap, schedule=schedule)})
    with pytest.raises(
        ValueError, match=f"MultimodalGuider: the {side} model has context windows with context_overlap {overlap} and context_length 8"
    ):
        run(guider)


def test_an_overlap_does_not_matter_where_the_canvas_is_one_window(joint, audio_model):
    assert torch.equal(run(joint(audio=windowed(audio_model, length=32, overlap=40))), run(joint()))


@pytest.mark.parametrize("dim", [4, 5])
def test_context_windows_along_a_dimension_that_latents_do_not_have_are_refused(joint, audio_model, dim):
    with pytest.raises(ValueError, match=f"the audio model has context windows along dim {dim}, and latents have 4. Set dim to 3"):
        run(joint(audio=windowed(audio_model, dim=dim)))


def test_sigmas_that_are_nan_are_laid_to_their_scheduler(joint, image_model):
    with pytest.raises(ValueError, match="MultimodalGuider: the sigmas hold NaN.*their scheduler failed.* Set steps to 2"):
        run(joint(), sigmas=sigmas_of(image_model, 1, "kl_optimal"))


# Clones of one model


def test_one_model_with_two_prompts_may_take_both_sides(joint, image_model):
    calls = []
    guider = joint(image=image_model, audio=count_calls(image_model, calls))
    halves = [run(joint(image=image_model, audio=image_model, weight=weight)) for weight in (0.0, 1.0)]
    result = run(guider)
    assert len(calls) == 4 and all(relative(result, half) > 1e-3 for half in halves)


@pytest.fixture
def three(guider_module, image_model):
    """Latents of three experts on one model, the first from 0.7 on, and how many canvases its UNet was given in all."""

    def sampled(negatives, view="none", sampler="ddim", **options):
        items = []
        model = image_model.clone()
        model.set_model_unet_function_wrapper(
            lambda apply, args: (items.append(len(args["input"])), apply(args["input"], args["timestep"], **args["c"]))[1]
        )
        positives = [[[text, pooled | options] for text, pooled in conditioning(seed)] for seed in (1, 2, 3)]
        seen = guider_module.IDENTITY if view == "none" else HALVES_END_TO_END
        numbers = ((7.0, 0.7, 1.0, guider_module.IDENTITY), (5.0, 1.0, 1.0, seen), (3.0, 1.0, 0.5, seen))
        experts = [
            guider_module.ModelExpert("test", name, model, positive, negative, *own)
            for name, positive, negative, own in zip("abc", positives, negatives, numbers, strict=True)
        ]
        start = torch.randn(TWO_ROWS if view != "none" else SHAPE, generator=torch.Generator().manual_seed(0))
        return run(guider_module.JointGuider(experts), start, sampler), sum(items)

    return sampled


@pytest.mark.parametrize(("view", "sampler", "saved"), [("none", "ddim", 7), ("none", "heun", 13), ("two-row square", "euler_cfg_pp", 4)])
def test_a_negative_that_experts_on_one_model_share_is_evaluated_once_a_step(three, view, sampler, saved):
    one = conditioning(9)
    shared, evaluations = three([one] * 3, view, sampler)
    apart, more = three([conditioning(9) for _ in range(3)], view, sampler)
    print(f"{sampler}, view {view}: {evaluations} evaluations instead of {more}")
    assert more - evaluations == saved  # one a step with two votes, two with three
    assert relative(shared, apart) < 1e-5


def test_where_a_mask_would_change_the_shared_negative_each_expert_evaluates_its_own(three):
    one, mask = conditioning(9), {"mask": torch.ones(1, 8, 16), "mask_strength": 1.0}
    assert three([one] * 3, **mask)[1] == three([conditioning(9) for _ in range(3)], **mask)[1]


def test_each_of_two_clones_gets_its_own_callbacks(joint, image_model):
    calls = []
    watched = image_model.clone()
    watched.add_callback(CallbacksMP.ON_PREPARE_STATE, lambda patcher, timestep, *_: calls.append(float(timestep[0])))
    sigmas = sigmas_of(image_model)
    run(joint(image=watched, audio=image_model, image_t=0.7), sigmas=sigmas)
    assert calls == pytest.approx(sigmas[1:4].tolist())


def test_two_clones_with_different_loras_are_refused(joint, image_model):
    with pytest.raises(ValueError, match=r"MultimodalGuider: the image and the audio model are two versions of one .* LoadDualUNets"):
        joint(image=image_model, audio=with_lora(image_model))


def test_two_clones_with_the_same_lora_are_accepted(joint, image_model):
    patched = with_lora(image_model)
    assert run(joint(image=patched, audio=patched.clone())).isfinite().all()


def test_two_clones_with_different_model_sampling_are_refused(joint, image_model):
    other = image_model.clone()
    other.add_object_patch("model_sampling", random_model().get_model_object("model_sampling"))
    with pytest.raises(ValueError, match="two versions of one loaded model"):
        joint(image=image_model, audio=other)


def test_hooks_on_one_of_two_clones_are_refused(joint, image_model):
    hooked = comfy.hooks.set_hooks_for_conditioning(conditioning(AUDIO_PROMPT), comfy.hooks.create_hook_lora(lora(), 1.0, 0.0))
    with pytest.raises(ValueError, match="two versions of one loaded model"):
        joint(image=image_model, audio=image_model, audio_positive=hooked)


# Refused before sampling


def test_an_sdxl_model_on_one_side_is_refused(joint):
    sdxl = random_model(comfy.supported_models.SDXL, adm_in_channels=2816, num_classes="sequential")
    message = r"MultimodalGuider: the audio model works on SDXL \(4 channels, scale 0.13025\) latents, the image model on SD15 \("
    with pytest.raises(ValueError, match=message):
        joint(audio=sdxl)


def test_an_inpainting_model_is_refused(joint):
    with pytest.raises(ValueError, match="MultimodalGuider: the image model is an inpainting .* takes 9 channels .* ordinary version"):
        joint(image=random_model(in_channels=9))


@pytest.mark.parametrize("family", ["SD3", "Flux"])
def test_a_model_of_another_latent_space_is_refused(joint, image_model, family):
    other = image_model.clone()
    other.add_object_patch("latent_format", getattr(comfy.latent_formats, family)())
    with pytest.raises(ValueError, match=rf"the audio model works on {family} \(16 channels.*Choose models that share one latent space"):
        joint(audio=other)


def with_sampling(model, kind, schedule=comfy.model_sampling.ModelSamplingDiscrete):
    """The model with another prediction type, as ComfyUI's ModelSampling nodes make it."""
    sampling = type("ModelSampling", (schedule, kind), {})(model.model.model_config)
    model = model.clone()
    model.add_object_patch("model_sampling", sampling)
    return model


def test_a_v_prediction_model_beside_an_eps_model_is_the_mean_of_both(joint, image_model, audio_model):
    velocity = with_sampling(image_model, comfy.model_sampling.V_PREDICTION)
    sigmas = sigmas_of(image_model)[:2]  # one step of ddim is linear in the estimate
    image = run(single(velocity, conditioning(IMAGE_PROMPT), conditioning(IMAGE_NULL)), sigmas=sigmas)
    audio = run(single(audio_model, conditioning(AUDIO_PROMPT), conditioning(AUDIO_NULL)), sigmas=sigmas)
    assert relative(run(joint(image=velocity, weight=0.3), sigmas=sigmas), 0.7 * image + 0.3 * audio) < 1e-5
    assert relative(image, audio) > 1e-3


def test_a_flow_model_is_refused(joint, audio_model):
    flow = with_sampling(audio_model, comfy.model_sampling.CONST, comfy.model_sampling.ModelSamplingDiscreteFlow)
    with pytest.raises(
        ValueError, match="MultimodalGuider: the audio model works by flow matching .*the image model by diffusion.*of one kind"
    ):
        joint(audio=flow)


def test_an_expert_is_not_asked_beyond_the_noise_it_knows(joint, image_model, audio_model):
    calls = []
    noisier = with_sampling(image_model, comfy.model_sampling.V_PREDICTION)
    noisier.get_model_object("model_sampling").set_sigmas(image_model.get_model_object("model_sampling").sigmas * 10)
    sigmas = sigmas_of(noisier)
    with pytest.raises(
        ValueError, match=r"MultimodalGuider: sampling starts at sigma .*, where the audio model, trained up to 14.61, .*t at 0.99"
    ):
        run(joint(image=noisier, audio=count_calls(audio_model, calls)), sigmas=sigmas)
    assert calls == []
    run(joint(image=noisier, audio=count_calls(audio_model, calls), audio_t=0.99), sigmas=sigmas)
    assert calls and max(calls) < 14.61


def test_noise_that_no_expert_was_trained_on_is_the_users_choice(joint, image_model):
    assert run(joint(), sigmas=2 * sigmas_of(image_model)).isfinite().all()


@pytest.mark.parametrize("socket", ["positive", "negative"])
def test_text_of_another_encoder_is_refused(joint, socket):
    with pytest.raises(
        ValueError, match=f"the audio model reads text embeddings 32 wide, but its {socket} conditioning, 64 wide, .*the CLIP of"
    ):
        joint(**{f"audio_{socket}": [[torch.randn(1, 77, 64), {}]]})


def test_a_model_that_reads_text_in_its_own_way_may_have_text_of_any_width(joint, image_model):
    def reads_half(apply, args):
        return apply(args["input"], args["timestep"], **args["c"] | {"c_crossattn": args["c"]["c_crossattn"][..., :32]})

    own_way = image_model.clone()
    own_way.set_model_unet_function_wrapper(reads_half)
    wide = {f"image_{socket}": [[torch.randn(1, 7, 64), {}]] for socket in ("positive", "negative")}
    assert run(joint(image=own_way, **wide)).isfinite().all()


def test_a_negative_weight_is_refused(joint):
    with pytest.raises(ValueError, match="the audio expert's weight is -1"):
        joint(audio_weight=-1.0)


def test_both_t_0_are_refused_before_any_evaluation(joint, image_model):
    calls = []
    with pytest.raises(ValueError, match=r"MultimodalGuider: no expert takes part at sigma .*\(image t 0 .*, audio t 0 .*t_audio.* to 1"):
        run(joint(image=count_calls(image_model, calls), image_t=0.0, audio_t=0.0))
    assert calls == []


def test_a_schedule_that_starts_before_every_expert_is_refused(joint):
    with pytest.raises(ValueError, match="no expert takes part at sigma"):
        run(joint(image_t=0.5, audio_t=0.6))


def test_the_start_of_an_expert_without_weight_does_not_count(joint):
    with pytest.raises(ValueError, match="audio t 1 weight 0"):
        run(joint(weight=0.0, image_t=0.5, audio_t=1.0))


@pytest.mark.parametrize("shape", [(1, 16, 8, 16), (1, 4, 3, 8, 16), (1, 8, 16)])
def test_latents_of_another_model_are_refused(joint, shape):
    with pytest.raises(ValueError, match=f"MultimodalGuider: the latents are {'x'.join(map(str, shape))}; .* EmptySpectrogramLatent"):
        run(joint(), torch.randn(shape))


@pytest.mark.parametrize("width", [16, 15])
def test_a_height_that_a_view_cannot_halve_is_refused(joint, width):
    with pytest.raises(ValueError, match=f"MultimodalGuider: the latents are 1x4x63x{width}; height .* must be even.*multiples of 16"):
        run(joint(audio_view=HALVES_END_TO_END), torch.randn(1, 4, 63, width))


@pytest.mark.parametrize("shape", [(1, 4, 31, 16), (1, 4, 8, 17), (2, 4, 7, 9)])
def test_odd_sizes_are_sampled_as_comfyui_does(joint, image_model, shape):
    start = torch.randn(shape)
    alone = run(single(image_model, conditioning(IMAGE_PROMPT), conditioning(IMAGE_NULL)), start)
    assert torch.equal(run(joint(weight=0.0), start), alone)
    assert run(joint(), start).shape == shape


def test_a_square_of_odd_width_is_sampled_through_its_view(joint, audio_model):
    start = torch.randn(1, 4, 64, 9)
    alone = run(single(audio_model, conditioning(AUDIO_PROMPT), conditioning(AUDIO_NULL)), HALVES_END_TO_END.view(start))
    assert torch.equal(HALVES_END_TO_END.view(run(joint(weight=1.0, audio_view=HALVES_END_TO_END), start)), alone)


def test_a_canvas_of_another_height_is_accepted(joint):
    assert run(joint(), torch.randn(1, 4, 12, 12)).shape == (1, 4, 12, 12)


# Values that no widget lets through, and that come over links


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("broken", ["latents", "noise", "noise mask", "sigmas"])
def test_what_a_run_starts_from_must_be_finite(joint, image_model, broken, value):
    calls = []
    values = {"latents": torch.zeros(SHAPE), "noise": noise(), "noise mask": torch.ones(1, 8, 16), "sigmas": sigmas_of(image_model)}
    values[broken].view(-1)[1] = value
    remedy = "choose another scheduler" if broken == "sigmas" else "float32"
    with pytest.raises(ValueError, match=f"MultimodalGuider: the {broken} hold NaN or infinite .*{remedy}"):
        guider = joint(count_calls(image_model, calls))
        run(guider, values["noise"], latents=values["latents"], denoise_mask=values["noise mask"], sigmas=values["sigmas"])
    assert calls == []


@pytest.mark.parametrize(
    ("positive", "message"),
    [
        ([], "conditioning is empty. Encode a prompt"),
        ([[torch.zeros(1, 0, 32), {}]], "conditioning is empty. Encode a prompt"),
        ([[torch.full((1, 7, 32), float("nan")), {}]], "conditioning is NaN or infinite.*another CLIP"),
        ([[None, {}]], "conditioning holds no text embeddings.*Encode a prompt"),
        ([[torch.zeros(7, 32), {}]], "conditioning holds no text embeddings.*Encode a prompt"),
    ],
    ids=["no entry", "no tokens", "NaN", "none inside", "no batch"],
)
def test_text_that_is_none_is_refused(joint, positive, message):
    with pytest.raises(ValueError, match=f"MultimodalGuider: the audio model's positive {message}"):
        joint(audio_positive=positive)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(area=(8, 8, 0, 16)), r"an area of the audio model's positive .* begins at x 16, y 0, outside of 16 x 32 latents"),
        (dict(area=("percentage", 0.5, 0.5, 1.0, 0.0)), "begins at x 0, y 32, outside"),
        (dict(mask=torch.zeros(0, 8, 16)), "the mask of the audio model's positive conditioning is empty"),
        (dict(mask=torch.full((1, 8, 16), float("nan"))), "the mask of .* is empty or NaN"),
        (dict(area=(8, 8, 0, 0), strength=float("nan")), "the strength of the audio model's positive conditioning is nan"),
        (dict(strength=None), "the strength of .* is None. Set it to a number"),
        (dict(start_percent=float("nan")), "the start_percent of .* is nan. Set it to a number"),
        (dict(area=(0, 8, 0, 0)), r"an area of .* has no size \(\(0, 8, 0, 0\)\). Set its width"),
        (dict(area=("percentage", float("nan"), 1.0, 0.0, 0.0)), "an area of .* has no size"),
    ],
    ids=[
        *("area outside", "area outside, in percent", "empty mask", "NaN in the mask", "NaN strength", "no strength", "NaN percent"),
        *("empty area", "NaN area"),
    ],
)
def test_regions_that_cannot_be_used_are_refused_by_their_own_models_canvas(joint, options, message):
    guider = joint(audio_view=HALVES_END_TO_END, audio_positive=[*conditioning(21), *conditioning(AUDIO_PROMPT, **options)])
    with pytest.raises(ValueError, match=f"MultimodalGuider: .*{message}"):
        run(guider, two_row_noise())


def test_latents_that_a_model_made_nan_are_no_result(joint, unets):
    broken = native_model(unets[0])
    with torch.no_grad():
        next(broken.model.diffusion_model.parameters()).fill_(torch.nan)
    with pytest.raises(ValueError, match="MultimodalGuider: sampling ended in latents that are NaN .* the image model or the audio model"):
        run(joint(image=broken))


@pytest.mark.parametrize("shape", [(1, 4, 32, 0), (0, 4, 32, 8)])
def test_latents_without_a_value_are_refused(joint, shape):
    with pytest.raises(ValueError, match=f"MultimodalGuider: the latents are {'x'.join(map(str, shape))}; .* EmptySpectrogramLatent"):
        run(joint(), torch.zeros(shape))


def test_nested_latents_are_refused(joint):
    nested = comfy.nested_tensor.NestedTensor([torch.zeros(1, 16, 1, 8, 8), torch.zeros(1, 8, 16)])
    with pytest.raises(ValueError, match="MultimodalGuider: the latents are nested .* EmptySpectrogramLatent"):
        joint().sample(nested, nested, comfy.samplers.sampler_object("ddim"), torch.tensor([1.0, 0.0]), seed=0)


@pytest.mark.parametrize("sampler", ["ddim", "euler_ancestral", "dpmpp_2m_sde"])
def test_the_largest_seed_is_sampled(joint, sampler):
    guider, start = joint(), noise()
    with torch.inference_mode():
        sampled = guider.sample(
            start, torch.zeros(SHAPE), comfy.samplers.sampler_object(sampler), sigmas_of(guider.model_patcher), seed=2**64 - 1
        )
    assert sampled.isfinite().all()
