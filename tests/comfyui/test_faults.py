"""What users do that once failed, or silently gave something wrong: each as one graph through the real server."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from launch import workflow
from launch.environment import REPO, QuickstartError
from launch.server import Server

STEPS = 2
Prompt = dict[str, dict[str, Any]]


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def noise(seconds: float, rate: int, channels: int = 1) -> np.ndarray:
    return (0.1 * np.random.default_rng(0).standard_normal((int(seconds * rate), channels))).astype(np.float32)


@pytest.fixture(scope="module")
def recordings(server: Server) -> None:
    """Recordings and a picture in the server's input folder."""
    folder, rate = server.base / "input", 44100
    soundfile.write(folder / "two_seconds.wav", noise(2, 48000, 2), 48000)
    soundfile.write(folder / "telephone.wav", noise(2, 8000), 8000)
    tone = 0.4 * np.sin(2 * np.pi * 300 * np.arange(2 * rate) / rate)[:, None] + noise(2, rate) / 5
    soundfile.write(folder / "in_phase.wav", np.concatenate([tone, tone], 1), rate)
    soundfile.write(folder / "out_of_phase.wav", np.concatenate([tone, -tone], 1), rate)
    Image.fromarray((np.indices((200, 300))[1] > 150).astype(np.uint8) * 255).save(folder / "hard_edge.png")


def joint(image: str = "embedded", view: str = "none", image_prompt: str = "a castle", windows: bool = False) -> Prompt:
    """Loader L, conditionings, and the two models, with context windows where asked for, as the inputs of guider and sampler in G."""
    prompt = {"L": node("LoadDualUNets", image_model_name=image, audio_model_name="embedded", weight_dtype="default")}
    texts = {"image_positive": (image_prompt, 1), "image_negative": ("", 1), "audio_positive": ("bell", 3), "audio_negative": ("", 3)}
    prompt |= {name: node("CLIPTextEncode", text=text, clip=["L", output]) for name, (text, output) in texts.items()}
    for name, output in {"image_model": 0, "audio_model": 2}.items() if windows else ():
        prompt[name] = node(
            "ContextWindowsManual", model=["L", output], context_length=32, context_overlap=8, context_schedule="standard_static",
            context_stride=1, closed_loop=False, fuse_method="pyramid", dim=3, freenoise=False, cond_retain_index_list="",
            split_conds_to_windows=False, latent_retain_index_list="", causal_window_fix=False,
        )  # fmt: skip
    models = {"image_model": ["image_model", 0], "audio_model": ["audio_model", 0]} if windows else {}
    given = {"image_model": ["L", 0], "audio_model": ["L", 2]} | models | {name: [name, 0] for name in texts}
    given |= {"image_cfg": 10.0, "audio_cfg": 10.0, "t_image": 0.9, "t_audio": 1.0, "audio_weight": 0.5, "view": view}
    return prompt | {"G": node("MultimodalGuider", **given)}


def sampled(prompt: Prompt, latent: list[Any], denoise: float = 1.0) -> Prompt:
    """With a sampler on `latent`, its picture in D and saved in O."""
    given = {"seed": 1, "steps": STEPS, "sampler_name": "ddim", "scheduler": "ddim_uniform", "denoise": denoise}
    sampler = node("MultimodalKSampler", **prompt.pop("G")["inputs"], latent_image=latent, **given)
    saver = node("SaveImage", images=["D", 0], filename_prefix="faults/picture")
    return prompt | {"K": sampler, "D": node("VAEDecode", samples=["K", 0], vae=["L", 4]), "O": saver}


def searched(prompt: Prompt, seconds: float, view: str = "none", image_prompt: str = "castle") -> Prompt:
    """With a keeper search of two drafts and one keeper, its picture saved."""
    given = {"seed": 1, "candidates": 2, "keepers": 1, "budget": 2.0, "steps": STEPS, "sampler_name": "ddim", "scheduler": "ddim_uniform"}
    given |= {"image_prompt": image_prompt, "audio_prompt": "bell", "view": view, "latent_image": ["E", 0]}
    return prompt | {
        "E": node("EmptySpectrogramLatent", seconds=seconds, batch_size=1, view=view),
        "S": node("LoadScorers", picture_scorer_name="embedded", sound_scorer_name="embedded"),
        "KS": node("KeeperSearch", guider=["G", 0], vae=["L", 4], scorer=["S", 0], **given),
        "O": node("SaveImageThatSounds", image=["KS", 1], audio=["KS", 2], filename_prefix="faults/kept"),
    }


def sizes(server: Server, prompt: Prompt) -> list[tuple[int, int]]:
    """Width and height of the pictures that a prompt saves."""
    return [Image.open(path).size for path in server.files_of(prompt) if path.suffix == ".png"]


def texts(server: Server, prompt: Prompt) -> str:
    """What PreviewAny shows."""
    return next(data["output"]["text"][0] for kind, data in server.run(prompt) if kind == "executed" and "text" in data["output"])


def test_a_long_canvas_is_sampled_in_batches_and_searched(server: Server) -> None:
    canvas = {"E": node("EmptySpectrogramLatent", seconds=3.84, batch_size=2, view="none")}
    assert sizes(server, sampled(joint(windows=True), ["E", 0]) | canvas) == [(384, 256)] * 2
    assert sizes(server, searched(joint(windows=True), seconds=3.84)) == [(384, 256)]


def test_a_recording_of_any_length_is_sampled(server: Server, recordings: None) -> None:
    """Two seconds are 25 latents, an odd number."""
    prompt = sampled(joint(), ["V", 0], denoise=0.6) | {
        "A": node("LoadAudio", audio="two_seconds.wav"),
        "P": node("AudioToSpectrogram", audio=["A", 0], seconds=0.0),
        "V": node("VAEEncode", pixels=["P", 0], vae=["L", 4]),
    }
    assert sizes(server, prompt) == [(200, 256)]
    empty = {"E": node("EmptyLatentImage", width=424, height=256, batch_size=1)}
    assert sizes(server, sampled(joint(), ["E", 0]) | empty) == [(424, 256)]


def test_a_photo_that_a_bicubic_resize_made_overshoot_is_taken_as_core_takes_it(server: Server, recordings: None) -> None:
    prompt = {
        "P": node("LoadImage", image="hard_edge.png"),
        "A": node("LoadAudio", audio="two_seconds.wav"),
        "B": node("ImageScale", image=["P", 0], upscale_method="bicubic", width=200, height=256, crop="disabled"),
        "R": imprint(["B", 0], ["A", 0]),
        "O": node("SaveImageThatSounds", image=["B", 0], audio=["R", 0], filename_prefix="faults/ours"),
        "C": node("SaveImage", images=["B", 0], filename_prefix="faults/core"),
    }
    ours, _, core = sorted(server.files_of(prompt), key=lambda path: (path.stem.startswith("core"), path.suffix != ".png"))
    pixels = [np.asarray(Image.open(path).convert("RGB"), int) for path in (ours, core)]
    assert abs(pixels[0] - pixels[1]).max() <= 1, "core truncates, we round"


def imprint(image: list[Any], audio: list[Any]) -> dict[str, Any]:
    given = {"rho": 0.5, "start": 0.0, "seconds": 0.0, "low_hz": 0.0, "high_hz": 8000.0, "fit": "cover", "invert": False}
    return node("ImprintRecording", image=image, audio=audio, **given)


def test_a_telephone_recording_takes_a_picture_at_the_defaults(server: Server, recordings: None) -> None:
    prompt = {
        "P": node("LoadImage", image="hard_edge.png"),
        "A": node("LoadAudio", audio="telephone.wav"),
        "R": imprint(["P", 0], ["A", 0]),
        "O": node("SaveImageThatSounds", image=["R", 1], audio=["R", 0], filename_prefix="faults/telephone"),
    }
    flac = next(path for path in server.files_of(prompt) if path.suffix == ".flac")
    sound, rate = soundfile.read(flac)
    given, _ = soundfile.read(server.base / "input" / "telephone.wav")
    assert (rate, sound.shape) == (8000, given.shape)
    quarter = len(given) // 4  # dark on the left of the picture, bright on the right
    assert np.std(sound[:quarter]) < 0.9 * np.std(given[:quarter]) and np.std(sound[-quarter:]) > 0.95 * np.std(given[-quarter:])


def test_a_recording_out_of_phase_shows_what_it_would_in_phase(server: Server, recordings: None) -> None:
    pictures = []
    for name in ("in_phase", "out_of_phase"):
        prompt = {
            "A": node("LoadAudio", audio=f"{name}.wav"),
            "S": node("AudioToSpectrogram", audio=["A", 0], seconds=0.0),
            "O": node("SaveImage", images=["S", 0], filename_prefix=f"faults/{name}"),
        }
        (path,) = server.files_of(prompt)
        pictures.append(np.asarray(Image.open(path).convert("L"), int))
    assert abs(pictures[0] - pictures[1]).max() <= 2


def test_a_folder_with_its_unet_in_shards_gives_the_picture_of_the_whole_file(server: Server) -> None:
    folder = server.base / "models" / "diffusers" / "shards"
    shutil.copytree(REPO / "models" / "embedded-image", folder)
    whole = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(whole)
    whole.unlink()
    parts, where = (sorted(weights)[::2], sorted(weights)[1::2]), {}
    for number, names in enumerate(parts, 1):
        file = f"diffusion_pytorch_model-{number:05}-of-00002.safetensors"
        save_file({name: weights[name] for name in names}, whole.with_name(file))
        where |= dict.fromkeys(names, file)
    index = {"metadata": {}, "weight_map": where}
    whole.with_name(f"{whole.name}.index.json").write_text(json.dumps(index), encoding="utf-8")
    canvas = {"E": node("EmptySpectrogramLatent", seconds=0.64, batch_size=1, view="none")}
    pictures = []
    for name in ("embedded", "diffusers/shards"):
        (path,) = server.files_of(sampled(joint(name), ["E", 0]) | canvas)
        pictures.append(Image.open(path).tobytes())
    assert pictures[0] == pictures[1]


def test_a_square_canvas_is_searched_and_without_its_view_the_error_says_what_to_set(server: Server) -> None:
    view = "two-row square"
    assert sizes(server, searched(joint(view=view), seconds=1.28, view=view)) == [(64, 512)]
    prompt = searched(joint(view=view), seconds=1.28, view=view)
    prompt["KS"]["inputs"]["view"] = "none"
    with pytest.raises(QuickstartError, match="KeeperSearch: latent_image decodes to 512 rows; with view none.*the same view"):
        list(server.run(prompt))


def test_a_vocoder_whose_weight_norm_has_a_zero_direction_sounds_as_its_plain_weights(server: Server) -> None:
    source, folder = REPO / "models" / "embedded-audio" / "vocoder", server.base / "models" / "vocoders" / "zero_direction"
    folder.mkdir(parents=True)
    shutil.copy(source / "config.json", folder)
    pairs: dict[str, torch.Tensor] = {}
    for name, weight in load_file(source / "vocoder.safetensors").items():
        if name.endswith(".weight"):
            lengths = weight.flatten(1).norm(dim=1).reshape(-1, *[1] * (weight.ndim - 1))
            pairs |= {f"{name}_v": weight, f"{name}_g": lengths}
        else:
            pairs[name] = weight
    torch.save({"generator": pairs}, folder / "vocoder.pt")
    sounds = []
    for name in ("vocoders/zero_direction", "embedded"):
        prompt = {
            "I": node("EmptyImage", width=64, height=256, batch_size=1, color=0x808080),
            "V": node("LoadVocoder", vocoder_name=name),
            "A": node("SpectrogramToAudio", spectrogram=["I", 0], vocoder=["V", 0]),
            "O": node("SaveImageThatSounds", image=["I", 0], audio=["A", 0], filename_prefix="faults/vocoded"),
        }
        flac = next(path for path in server.files_of(prompt) if path.suffix == ".flac")
        sounds.append(soundfile.read(flac)[0])
    np.testing.assert_allclose(*sounds, atol=1e-3)
    assert abs(sounds[0]).max() > 0.01


def test_a_line_break_in_a_prompt_is_a_space_where_pictures_are_scored_and_searched(server: Server, recordings: None) -> None:
    prompt = {
        "S": node("LoadScorers", picture_scorer_name="embedded", sound_scorer_name="embedded"),
        "A": node("LoadAudio", audio="two_seconds.wav"),
        "P": node("LoadImage", image="hard_edge.png"),
        "B": node("RepeatImageBatch", image=["P", 0], amount=2),
        "T": node("ScoreImageAndSound", scorer=["S", 0], images=["B", 0], audio=["A", 0], image_prompt="", audio_prompt="bell"),
        "O": node("PreviewAny", source=["T", 1]),
    }
    tables = []
    for text in ("a castle,\ngrayscale", "a castle, grayscale"):
        prompt["T"]["inputs"]["image_prompt"] = text
        tables.append(texts(server, prompt))
    assert tables[0] == tables[1] and tables[0].splitlines()[1].split()[1:] == tables[0].splitlines()[2].split()[1:]
    words = "a castle,\ngrayscale"
    assert sizes(server, searched(joint(image_prompt=words), seconds=0.64, image_prompt=words)) == [(64, 256)]


def test_a_saved_coloured_picture_is_to_the_bit_the_sound_of_the_gray_one(server: Server) -> None:
    canvas = {"E": node("EmptySpectrogramLatent", seconds=0.64, batch_size=1, view="none")}
    prompt = sampled(joint(), ["E", 0]) | canvas
    for colormap in ("gray", "viridis"):
        prompt[f"R {colormap}"] = node("RenormalizeSpectrogram", spectrogram=["D", 0], colormap=colormap, stretch=False)
        prompt[f"O {colormap}"] = node("SaveImage", images=[f"R {colormap}", 0], filename_prefix=f"faults/{colormap}")
    saved = {path.stem.split("_")[0]: path for path in server.files_of(prompt)}
    sounds = []
    for colormap in ("gray", "viridis"):
        again = {
            "P": node("LoadImage", image=f"{saved[colormap].relative_to(server.output).as_posix()} [output]"),
            "A": node("SpectrogramToAudio", spectrogram=["P", 0], iterations=4),
            "O": node("SaveImageThatSounds", image=["P", 0], audio=["A", 0], filename_prefix=f"faults/heard {colormap}"),
        }
        flac = next(path for path in server.files_of(again) if path.suffix == ".flac")
        sounds.append(soundfile.read(flac)[0])
    assert np.array_equal(*sounds) and np.asarray(Image.open(saved["viridis"])).std(axis=-1).max() > 20


def test_a_folder_of_the_output_that_is_linked_to_another_disk_takes_what_is_made(server: Server, recordings: None, tmp_path: Path) -> None:
    (server.output / "linked").symlink_to(tmp_path, target_is_directory=True)
    prompt = {
        "P": node("LoadImage", image="hard_edge.png"),
        "A": node("LoadAudio", audio="two_seconds.wav"),
        "O": node("SaveImageThatSounds", image=["P", 0], audio=["A", 0], filename_prefix="linked/disk/pair"),
    }
    assert len(server.files_of(prompt)) == 2
    assert sorted(path.name for path in tmp_path.rglob("pair*")) == ["pair_00001_.flac", "pair_00001_.png"]
    assert server.get_bytes("/view?filename=pair_00001_.png&subfolder=linked/disk&type=output")[1:4] == b"PNG"


def test_a_three_minute_song_goes_from_photo_and_recording_to_saved_pair_and_video(server: Server, object_info: dict[str, Any]) -> None:
    """The template with a video behind it: the old layout ended at 163.84 s, and its cost grew with the square of the length."""
    seconds, rate = 180.0, 8000
    soundfile.write(server.base / "input" / "song.flac", noise(seconds, rate), rate)
    prompt = workflow.to_prompt(workflow.load(REPO / "workflows" / "03 Picture in a song.json"), object_info)
    workflow.node_of(prompt, "LoadAudio")["audio"] = "song.flac"
    saved = workflow.node_of(prompt, "SaveImageThatSounds")
    given = {"fps": 1.0, "image_prompt": "", "audio_prompt": "", "image": saved["image"], "audio": saved["audio"]}
    prompt["video"] = node("PlayheadVideo", **given)
    prompt["saved"] = node("SaveVideo", video=["video", 0], filename_prefix="faults/song", format="auto", codec="auto")
    files = server.files_of(prompt)
    with av.open(next(path for path in files if path.suffix == ".mp4")) as video:
        assert video.duration is not None and video.duration / av.time_base == pytest.approx(seconds, abs=0.1)
        assert video.streams.video[0].frames == seconds
    sound, kept = soundfile.read(next(path for path in files if path.suffix == ".flac"))
    assert (kept, len(sound)) == (rate, seconds * rate)
    assert Image.open(next(path for path in files if path.suffix == ".png")).size == (seconds * 100, 256)
