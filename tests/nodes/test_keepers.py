"""The search for good seeds, on the embedded models and a short canvas."""

from __future__ import annotations

import copy
import importlib
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("comfy.samplers", reason="COMFYUI_PATH does not name a ComfyUI folder")

import comfy.model_management  # noqa: E402
import comfy.samplers  # noqa: E402
import comfy.utils  # noqa: E402

STEPS, SEED = 8, 7
PROMPTS = {"image_prompt": "a drawing of castles", "audio_prompt": "church bell ringing"}


@pytest.fixture(scope="module")
def modules(pack):
    names = ("keepers", "sampling", "loaders", "scoring")
    found = {name: importlib.import_module(f"{pack.__name__}.nodes.{name}") for name in names}
    return found | {"search": importlib.import_module(f"{pack.__name__}.bridge.keeper_search")}


@pytest.fixture(scope="module")
def graph(modules):
    """The guider's inputs, guider, VAE, scorer and canvas, as a template wires them."""
    image_model, image_clip, audio_model, audio_clip, vae = modules["loaders"].LoadDualUNets.execute("embedded", "embedded").result

    def encode(clip, text):
        return clip.encode_from_tokens_scheduled(clip.tokenize(text))

    with torch.inference_mode():
        guided = {
            "image_model": image_model,
            "image_positive": encode(image_clip, PROMPTS["image_prompt"]),
            "image_negative": encode(image_clip, ""),
            "audio_model": audio_model,
            "audio_positive": encode(audio_clip, PROMPTS["audio_prompt"]),
            "audio_negative": encode(audio_clip, ""),
            "image_cfg": 10.0,
            "audio_cfg": 7.0,
            "t_image": 0.9,
            "t_audio": 1.0,
            "audio_weight": 0.5,
        }
        (guider,) = modules["sampling"].MultimodalGuider.execute(**guided).result
        (scorer,) = modules["scoring"].LoadScorers.execute("embedded", "embedded").result
        (canvas,) = modules["sampling"].EmptySpectrogramLatent.execute(0.64, 1).result
    return {"guided": guided, "guider": guider, "vae": vae, "scorer": scorer, "canvas": canvas}


@pytest.fixture(autouse=True)
def drafted_though_short(request, modules, monkeypatch):
    """These samples are short, to be quick, and are drafted all the same, but where a test asks for `as_shipped`."""
    if "as_shipped" not in request.fixturenames:
        for name, value in (("SHORT", 0), ("LEAST", STEPS // 2)):
            monkeypatch.setitem(modules["keepers"].plan.__globals__, name, value)


@pytest.fixture
def as_shipped():
    """Drafts as they are shipped."""


@pytest.fixture
def scored_by_seed(modules, monkeypatch):
    """Replace the scorer: a higher noise mean, known for each seed, is better; so the best seeds can be told beforehand."""
    order = [SEED + i for i in (3, 0, 5, 1, 4, 2)]

    def examine(self, batch, latents, iterations=None):
        for one in batch:
            one.thumbnail = torch.zeros(64, 256, dtype=torch.uint8)
            one.picture_score = one.sound_score = -float(order.index(one.seed))

    monkeypatch.setattr(modules["search"].Search, "_examine", examine)
    return order


@torch.inference_mode()
def search(modules, graph, candidates=6, keepers=2, budget=5.0, sampler="ddim", steps=STEPS, **inputs):
    given = {"guider": graph["guider"], "vae": graph["vae"], "scorer": graph["scorer"], **PROMPTS, "latent_image": graph["canvas"]}
    given |= {"seed": SEED, "candidates": candidates, "keepers": keepers, "budget": budget, "steps": steps}
    return modules["keepers"].KeeperSearch.execute(**(given | {"sampler_name": sampler, "scheduler": "ddim_uniform"} | inputs)).result


def test_a_vae_of_another_family_is_refused_before_anything_is_sampled(modules, graph):
    flux = copy.copy(graph["vae"])
    flux.latent_channels = 16
    with pytest.raises(
        ValueError, match="^KeeperSearch: vae makes pictures of latents of 16 channels, the guider's models make 4. Connect"
    ):
        search(modules, graph, vae=flux)


@torch.inference_mode()
def alone(modules, graph, seed, sampler="ddim", canvas=None, **guided):
    node = modules["sampling"].MultimodalKSampler
    (latent,) = node.execute(canvas or graph["canvas"], seed, STEPS, sampler, "ddim_uniform", 1.0, **graph["guided"] | guided).result
    return latent["samples"]


@pytest.mark.parametrize(("sampler", "budget", "batch_size"), [("ddim", 5.0, 1), ("dpmpp_2m", 5.0, 1), ("euler_ancestral", 6.0, 0)])
def test_a_keeper_is_to_the_bit_what_the_sampler_gives_for_its_seed(modules, graph, scored_by_seed, sampler, budget, batch_size):
    latent, _, _, _, seeds = search(modules, graph, budget=budget, sampler=sampler, batch_size=batch_size)
    assert seeds == f"{scored_by_seed[0]}, {scored_by_seed[1]}"
    for sample, seed in zip(latent["samples"], seeds.split(", "), strict=True):
        assert torch.equal(sample, alone(modules, graph, int(seed), sampler)[0])


def test_in_batches_a_keeper_is_the_same_but_for_rounding(modules, graph, scored_by_seed):
    latent, *_, seeds = search(modules, graph, batch_size=4)
    for sample, seed in zip(latent["samples"], seeds.split(", "), strict=True):
        torch.testing.assert_close(sample, alone(modules, graph, int(seed))[0], atol=2e-3, rtol=1e-3)


def test_the_search_takes_the_steps_that_were_planned(modules, graph, scored_by_seed, monkeypatch):
    taken = []
    monkeypatch.setattr(comfy.utils.ProgressBar, "update_absolute", lambda self, value, total=None, preview=None: taken.append(value))
    search(modules, graph, budget=5.5)
    plan = modules["keepers"].plan(6, 2, STEPS, 5.5)
    assert max(taken) == plan.cost <= 5.5 * STEPS


def test_a_draft_is_near_the_full_sample_of_its_seed_and_far_from_those_of_others(modules, graph, scored_by_seed, monkeypatch):
    made, sample = [], modules["search"].Search._sample

    def note(self, batch, sampler_name, sigmas):
        latents = sample(self, batch, sampler_name, sigmas)
        made.append((len(sigmas) - 1, {one.seed: latent for one, latent in zip(batch, latents.split(1), strict=True)}))
        return latents

    monkeypatch.setattr(modules["search"].Search, "_sample", note)
    search(modules, graph, candidates=6, keepers=4, budget=5.8, steps=40)
    (draft_steps, drafts), (steps, samples) = made
    assert draft_steps == 12 and steps == 40 and len(drafts) == 6 and len(samples) == 4
    for seed, latent in samples.items():
        apart = {other: (draft - latent).square().mean() for other, draft in drafts.items()}
        assert apart[seed] < 0.4 * min(value for other, value in apart.items() if other != seed)


def test_with_the_budget_of_all_nothing_is_drafted(modules, graph, scored_by_seed, monkeypatch):
    monkeypatch.setattr(modules["search"], "DRAFT_SAMPLER", "none")
    latent, *_, seeds = search(modules, graph, candidates=3, keepers=2, budget=3.0)
    assert len(latent["samples"]) == 2 and seeds == f"{SEED}, {SEED + 1}"


@pytest.mark.parametrize("sampler", ["ddim", "euler_ancestral"])
def test_short_samples_are_made_in_full_as_many_as_the_budget_allows(
    modules, graph, scored_by_seed, as_shipped, monkeypatch, caplog, sampler
):
    monkeypatch.setattr(modules["search"], "DRAFT_SAMPLER", "none")
    latent, *_, seeds = search(modules, graph, candidates=6, keepers=2, budget=3.9, sampler=sampler)
    assert len(latent["samples"]) == 2 and seeds == f"{SEED}, {SEED + 1}"  # of the first three
    assert "samples of 8 steps are too short to draft, so the first 3 of 6 candidates are sampled in full" in caplog.text


def test_a_mask_is_heeded(modules, graph, scored_by_seed):
    mask = torch.zeros(1, 256, 64)
    mask[..., 32:] = 1.0
    canvas = {"samples": torch.randn(1, 4, 32, 8, generator=torch.Generator().manual_seed(1)), "noise_mask": mask}
    latent, *_, seeds = search(modules, graph, latent_image=canvas, batch_size=1)
    assert torch.equal(latent["samples"][0], alone(modules, graph, int(seeds.split(",")[0]), canvas=canvas)[0])
    torch.testing.assert_close(latent["samples"][..., :3], canvas["samples"].expand(2, -1, -1, -1)[..., :3], atol=1e-4, rtol=0)


def test_models_that_work_by_flow_matching_are_searched_too(modules, graph, scored_by_seed):
    patch = importlib.import_module("comfy_extras.nodes_model_advanced").ModelSamplingSD3().patch
    with torch.inference_mode():
        flow = {side: patch(graph["guided"][side], shift=1.0)[0] for side in ("image_model", "audio_model")}
        (guider,) = modules["sampling"].MultimodalGuider.execute(**graph["guided"] | flow).result
    latent, *_, seeds = search(modules, graph, guider=guider, batch_size=1)
    assert seeds == f"{scored_by_seed[0]}, {scored_by_seed[1]}"
    assert torch.equal(latent["samples"][0], alone(modules, graph, scored_by_seed[0], **flow)[0])


@pytest.mark.parametrize(("t_image", "onsets"), [(1.0, set()), (0.8, {1}), (0.5, {4}), (0.05, {7}), (0.0, set())])
def test_a_draft_knows_after_which_step_a_model_begins_to_take_part(modules, graph, t_image, onsets):
    (guider,) = modules["sampling"].MultimodalGuider.execute(**graph["guided"] | {"t_image": t_image}).result
    model = guider.model_patcher
    sigmas = comfy.samplers.KSampler(model, STEPS, model.load_device, "ddim", "ddim_uniform", 1.0).sigmas
    assert modules["search"].onsets(guider, sigmas) == onsets


def test_pictures_sounds_and_scores_belong_to_the_keepers_best_first(modules, graph):
    (canvas,) = modules["sampling"].EmptySpectrogramLatent.execute(2.56, 1).result
    latent, images, audio, scores, seeds = search(modules, graph, candidates=3, keepers=2, budget=3.0, latent_image=canvas)
    assert latent["samples"].shape == (2, 4, 32, 32) and images.shape == (2, 256, 256, 3)
    assert audio["waveform"].shape == (2, 1, 40960) and len(scores.picture) == len(seeds.split(", ")) == 2
    with torch.inference_mode():
        decoded = graph["vae"].decode(latent["samples"]).mean(dim=-1)
        again, *_ = modules["scoring"].ScoreImageAndSound.execute(graph["scorer"], images, audio, *PROMPTS.values()).result
    torch.testing.assert_close(images[..., 0], decoded, atol=1e-5, rtol=0)
    torch.testing.assert_close(again.picture, scores.picture, atol=1e-2, rtol=0)
    torch.testing.assert_close(again.sound, scores.sound, atol=1e-2, rtol=0)


@pytest.mark.parametrize("finished", [0, 1, 3], ids=["nothing finished", "one finished", "all but the last"])
def test_a_cancelled_search_is_no_result_whatever_was_finished(modules, graph, scored_by_seed, monkeypatch, finished):
    """ComfyUI would cache what a node returns, and hand it out when the same prompt is queued again."""
    sample, count = modules["search"].Search._sample, iter(range(100))

    def sample_or_stop(self, *args):
        if next(count) == 6 + finished:  # six drafts come before
            raise comfy.model_management.InterruptProcessingException
        return sample(self, *args)

    monkeypatch.setattr(modules["search"].Search, "_sample", sample_or_stop)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        search(modules, graph, batch_size=1, keepers=4, budget=5.8, steps=40)


def test_after_the_largest_seed_comes_zero(modules, graph, scored_by_seed, monkeypatch):
    largest = 2**64 - 1
    scored_by_seed[:] = [largest, 0, 1, 2, 3, 4]
    latent, *_, seeds = search(modules, graph, seed=largest, batch_size=1)
    assert seeds == f"{largest}, 0"
    assert torch.equal(latent["samples"][1], alone(modules, graph, 0)[0])


def test_a_canvas_taken_out_of_a_batch_keeps_its_own_noise(modules, graph, scored_by_seed):
    canvas = graph["canvas"] | {"batch_index": [3]}
    latent, *_, seeds = search(modules, graph, latent_image=canvas, batch_size=1)
    assert torch.equal(latent["samples"][0], alone(modules, graph, int(seeds.split(",")[0]), canvas=canvas)[0])


def test_line_breaks_in_prompts_are_spaces(modules, graph, scored_by_seed):
    *_, scores, seeds = search(modules, graph, image_prompt="a drawing\nof castles\n", audio_prompt="\nchurch bell\r\nringing")
    assert scores.image_prompts == (PROMPTS["image_prompt"],) * 2 and scores.audio_prompts == (PROMPTS["audio_prompt"],) * 2


def test_a_search_reads_its_prompts_once(modules, graph, monkeypatch):
    read = []
    for model in (graph["scorer"].picture.model, graph["scorer"].sound.model):
        embed = model.embed
        monkeypatch.setattr(model, "embed", lambda prompts, embed=embed: read.extend(prompts) or embed(prompts))
    search(modules, graph, batch_size=1)
    assert sorted(read) == sorted(PROMPTS.values())


def test_the_preview_stays_small_however_many_candidates_there_are(modules, monkeypatch):
    """A JPEG side beyond 65 500 pixels stops ComfyUI's server."""
    keeper_search, shown = modules["search"], []
    monkeypatch.setattr(comfy.utils.ProgressBar, "update_absolute", lambda self, value, total=None, preview=None: shown.append(preview))
    plan = modules["keepers"].plan(4096, 4, 100, 1000.0)
    all_seen = keeper_search.Search(None, None, plan, 5, 4)
    for i, one in enumerate(all_seen.candidates):
        one.thumbnail, one.picture_score, one.sound_score = torch.full((512, 256), 255, dtype=torch.uint8), i, i
    all_seen._show(all_seen.candidates[:3])
    (kind, sheet, _) = shown[0]
    assert kind == "JPEG" and max(sheet.size) <= 16384
    top_left = sheet.convert("L").crop((0, 0, 250, 500))
    assert top_left.getextrema()[1] == 255, "the first, bright although others have better scores"


def test_a_square_canvas_is_scored_as_it_is_seen_and_heard_by_its_halves(modules, graph, monkeypatch):
    (canvas,) = modules["sampling"].EmptySpectrogramLatent.execute(1.28, 1, view="two-row square").result
    with torch.inference_mode():
        (guider,) = modules["sampling"].MultimodalGuider.execute(**graph["guided"], view="two-row square").result
    latent, images, audio, scores, seeds = search(
        modules, graph, guider=guider, latent_image=canvas, candidates=2, keepers=2, budget=2.0, steps=4, view="two-row square"
    )
    assert images.shape == (2, 512, 64, 3) and audio["waveform"].shape == (2, 1, 128 * 160)


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        ({"keepers": 7}, "7 keepers of 6"),
        ({"keepers": 0}, "keepers is 0; it is a whole number from 1"),
        ({"budget": float("nan")}, "budget is nan; it is a number from 0.1"),
        ({"steps": 2.5}, "steps is 2.5; it is a whole number"),
        ({"seed": 2**64}, "seed is 18446744073709551616; it is a whole number from 0"),
        ({"budget": 0.5}, "budget of 0.5 full samples is too small"),
        ({"sampler": "dpmpp_2m_sde"}, "dpmpp_2m_sde, which adds noise of its own"),
        (
            {"steps": 1, "candidates": 1, "keepers": 1, "scheduler": "kl_optimal"},
            "at steps 1 the .* scheduler kl_optimal are NaN. Set steps",
        ),
        ({"latent_image": "latent"}, "latent_image is no LATENT"),
        ({"latent_image": {"samples": torch.zeros(1, 4, 32, 8), "batch_index": [-1]}}, "batch_index of latent_image names -1"),
        ({"latent_image": {"samples": torch.zeros(1, 4, 32, 8), "batch_index": [1, 2]}}, "a batch of 1, but batch_index names 2"),
        ({"audio_prompt": "\u200b"}, "audio_prompt is empty"),
        ({"image_prompt": ""}, "image_prompt is empty"),
        ({"audio_prompt": " \n"}, "audio_prompt is empty"),
        ({"latent_image": {"samples": torch.zeros(2, 4, 32, 32)}}, "batch of 2; give one canvas"),
        (
            {"latent_image": {"samples": torch.zeros(1, 4, 64, 2)}, "view": "Riffusion"},
            "latent_image decodes to 16 columns; .* has 22 or more",
        ),
        ({"latent_image": {"samples": torch.zeros(1, 4, 64, 64)}}, "512 rows"),
        ({"latent_image": {"samples": torch.zeros(1, 4, 1, 32, 8)}}, "latent_image is no canvas of .*Use EmptySpectrogramLatent"),
        ({"latent_image": {"samples": torch.zeros(1, 0, 32, 8)}}, "latent_image is empty"),
    ],
)
def test_bad_input_is_named_before_anything_is_sampled(modules, graph, monkeypatch, inputs, told):
    monkeypatch.setattr(modules["search"].Search, "run", lambda self: pytest.fail("sampled"))
    with pytest.raises(ValueError, match=f"KeeperSearch: .*{told}"):
        search(modules, graph, **inputs)


def test_as_many_samples_fit_as_there_would_be_room_for_without_other_models(modules, graph, monkeypatch):
    """The memory that other models hold is counted as free, as ComfyUI would unload them; what the guider's own model holds is not."""
    patcher = graph["guider"].model_patcher
    sampling = modules["search"].Sampling(graph["guider"], graph["canvas"]["samples"], None, "ddim", torch.ones(2), None, 0)

    def loaded(model, held):
        return SimpleNamespace(device=patcher.load_device, model=SimpleNamespace(model=model), model_loaded_memory=lambda: held)

    def fitting(*models):
        monkeypatch.setattr(comfy.model_management, "current_loaded_models", list(models))
        return sampling._fitting(8)

    monkeypatch.setattr(patcher.model, "memory_required", lambda shape: 100 * shape[0])
    monkeypatch.setattr(comfy.model_management, "get_free_memory", lambda device=None: 400)
    assert fitting() == 2
    assert fitting(loaded(object(), 400)) == 4
    assert fitting(loaded(object(), 400), loaded(patcher.model, 800)) == 4


def test_a_scorer_that_gives_nan_is_laid_to_the_node_that_asked_it(modules, graph, monkeypatch):
    monkeypatch.setattr(graph["scorer"].sound.model, "forward", lambda *given: torch.full((1,), torch.nan))
    with pytest.raises(ValueError, match="^KeeperSearch: a scorer gave NaN"):
        search(modules, graph, candidates=2, keepers=1, budget=2.0)
