"""Riffusion's format through the nodes: made, sampled, played, shown, compared; and what is said where formats are mixed."""

from __future__ import annotations

import importlib
from types import SimpleNamespace

import folder_paths
import pytest
import torch

from itsound_core.spectrogram import RIFFUSION, band_frequencies

pytest.importorskip("comfy.samplers", reason="COMFYUI_PATH does not name a ComfyUI folder")

comfyui = importlib.import_module("nodes")
RATE, COLUMNS = 44100, 64
VOCODER = SimpleNamespace(patcher=None, name="one of Auffusion's format")
VIEW = "Riffusion"


@pytest.fixture(scope="module")
def nodes(pack):
    """Every node of the pack by its id."""
    names = ("audio", "sampling", "loaders", "picture", "imprint", "player", "keepers", "examples", "scoring")
    modules = [importlib.import_module(f"{pack.__name__}.nodes.{name}") for name in names]
    return SimpleNamespace(**{node.define_schema().node_id: node for module in modules for node in module.NODES})


@pytest.fixture(scope="module")
def chord():
    """AUDIO of 64 columns: three decaying notes, stereo."""
    time = torch.arange(RIFFUSION.samples(COLUMNS)) / RATE
    notes = sum(torch.sin(2 * torch.pi * hertz * time) for hertz in (262.0, 660.0, 3136.0))
    return {"waveform": (0.2 * notes * torch.exp(-2 * time)).expand(1, 2, -1), "sample_rate": RATE}


@pytest.fixture(scope="module")
def picture(nodes, chord):
    """The chord's IMAGE in Riffusion's format."""
    return nodes.AudioToSpectrogram.execute(chord, 0.0, view=VIEW).args[0]


@pytest.fixture(scope="module")
def played(nodes, picture):
    return nodes.SpectrogramToAudio.execute(picture, iterations=16, view=VIEW).args[0]


@pytest.fixture(scope="module")
def models(nodes):
    """The guider's inputs, VAE and scorer, of the embedded models."""
    image_model, image_clip, audio_model, audio_clip, vae = nodes.LoadDualUNets.execute("embedded", "embedded").result

    def encode(clip, text):
        return clip.encode_from_tokens_scheduled(clip.tokenize(text))

    with torch.inference_mode():
        guided = {
            "image_model": image_model,
            "image_positive": encode(image_clip, "a drawing of castles"),
            "image_negative": encode(image_clip, ""),
            "audio_model": audio_model,
            "audio_positive": encode(audio_clip, "church bell ringing"),
            "audio_negative": encode(audio_clip, ""),
            "image_cfg": 5.0,
            "audio_cfg": 5.0,
            "t_image": 0.9,
            "t_audio": 1.0,
            "audio_weight": 0.5,
        }
        (scorer,) = nodes.LoadScorers.execute("embedded", "embedded").result
    return SimpleNamespace(guided=guided, vae=vae, scorer=scorer)


def ksample(nodes, models, latent, view=VIEW):
    with torch.inference_mode():
        return nodes.MultimodalKSampler.execute(latent, 1, 2, "ddim", "ddim_uniform", 1.0, **models.guided, view=view).args[0]


@pytest.mark.parametrize(("seconds", "columns"), [(5.12, 64), (5.11, 64), (10.24, 128)])
def test_an_empty_canvas_has_64_rows_of_latents(nodes, seconds, columns):
    latent = nodes.EmptySpectrogramLatent.execute(seconds, 2, VIEW).args[0]
    assert latent["samples"].shape == (2, 4, 64, columns)


def test_a_canvas_is_sampled_decoded_played_and_compared(nodes, models):
    latent = ksample(nodes, models, nodes.EmptySpectrogramLatent.execute(0.64, 1, VIEW).args[0])
    with torch.inference_mode():
        image = models.vae.decode(latent["samples"])
    assert image.shape == (1, 512, COLUMNS, 3)
    sound = nodes.SpectrogramToAudio.execute(image, iterations=16, view=VIEW).args[0]
    assert sound["sample_rate"] == RATE and sound["waveform"].shape == (1, 1, 63 * 441)
    assert float(sound["waveform"].abs().max()) == pytest.approx(0.95)
    comparison, report = nodes.CycleConsistency.execute(image, sound, VIEW).args
    assert comparison.shape[2] == COLUMNS and comparison.shape[1] > 3 * 512
    assert float(report.rpartition(" ")[2]) > 0.8 and "louder" not in report and "quieter" not in report


def test_a_recording_comes_back(nodes, picture, played):
    assert picture.shape == (1, 512, COLUMNS, 3)
    again = nodes.AudioToSpectrogram.execute(played, 0.0, view=VIEW).args[0]
    assert again.shape == picture.shape
    assert torch.corrcoef(torch.stack([picture.flatten(), again.flatten()]))[0, 1] > 0.97
    report = nodes.CycleConsistency.execute(picture, played, VIEW).args[1]
    assert float(report.rpartition(" ")[2]) > 0.97


def test_any_rate_is_taken_and_seconds_are_a_hundred_columns(nodes, chord):
    other = {"waveform": torch.randn(1, 1, 22050), "sample_rate": 22050}
    assert nodes.AudioToSpectrogram.execute(other, 0.0, view=VIEW).args[0].shape == (1, 512, 101, 3)
    assert nodes.AudioToSpectrogram.execute(other, 0.4, view=VIEW).args[0].shape == (1, 512, 40, 3)
    longer = nodes.AudioToSpectrogram.execute(chord, 1.0, view=VIEW).args[0]
    assert longer.shape == (1, 512, 100, 3) and longer[:, :, 90:].mean() > 0.99, "silence follows, and is white"


def test_a_square_view_makes_and_plays_the_square_itself(nodes, chord):
    square = nodes.AudioToSpectrogram.execute(chord, 0.64, view="two-row square").args[0]
    plain = nodes.AudioToSpectrogram.execute(chord, 0.64).args[0]
    assert square.shape == (1, 512, 32, 3)
    assert torch.equal(nodes.ViewCanvas.execute(square, "two-row square").args[0], plain)
    one, other = (
        nodes.SpectrogramToAudio.execute(image, iterations=2, view=view).args[0]["waveform"]
        for image, view in ((square, "two-row square"), (plain, "none"))
    )
    assert torch.equal(one, other)


def test_a_loop_is_as_long_as_its_columns(nodes, picture):
    looped = nodes.SpectrogramToAudio.execute(picture, iterations=2, loop=True, view=VIEW).args[0]
    assert looped["waveform"].shape == (1, 1, COLUMNS * 441)


def test_picture_and_sound_are_trimmed_together(nodes, picture, played):
    cut, sound = nodes.TrimCanvas.execute(picture, played, 32, VIEW).args
    assert cut.shape == (1, 512, 32, 3) and sound["waveform"].shape == (1, 1, 31 * 441)
    with pytest.raises(ValueError, match="TrimCanvas: columns is 60, .* 64 columns wide and 22 must stay. Set columns to 42"):
        nodes.TrimCanvas.execute(picture, played, 60, VIEW)


def test_colours_keep_the_gray(nodes, picture):
    magma = nodes.RenormalizeSpectrogram.execute(picture, "magma", False, VIEW).args[0]
    assert magma.shape == picture.shape and (magma.mean(-1) - picture.mean(-1)).abs().max() < 2e-3


def test_an_imprint_is_seen_as_it_is(nodes):
    loud, image = torch.full((1, 512, 64, 3), 0.2), torch.zeros(1, 512, 64, 3)
    image[:, :, :32] = 1.0
    seen = nodes.ImprintBaseline.execute(image, loud, 0.5, view=VIEW).args[0][..., 0]
    assert seen[:, 8:-8, 4:28].mean() == pytest.approx(0.6, abs=0.01) and seen[:, 8:-8, 36:].mean() == pytest.approx(0.2, abs=0.01)
    band = nodes.ImprintBaseline.execute(image, loud, 0.5, low_hz=7000.0, high_hz=8000.0, view=VIEW).args[0][..., 0]
    assert band[0, :, 4:28].mean(1).argmax() < 40 and band[0, 70:].mean() == pytest.approx(0.2, abs=1e-3)


def test_the_players_rows_are_riffusions_bands(nodes, picture, played, tmp_path, monkeypatch):
    monkeypatch.setattr(folder_paths, "temp_directory", str(tmp_path))
    node = nodes.PlayImage.PREPARE_CLASS_CLONE(None)
    node.hidden = SimpleNamespace(prompt={}, extra_pnginfo=None, unique_id="1")
    shown = node.execute(picture, played, VIEW).ui
    assert shown["player"][0]["is_spectrogram"] and shown["player"][0]["picture_seconds"] == pytest.approx(0.63)
    assert shown["row_hertz"][0] == [pytest.approx(hertz, abs=0.06) for hertz in band_frequencies(RIFFUSION).flip(0).tolist()]


def test_a_search_hears_its_candidates_in_the_format(nodes, models):
    with torch.inference_mode():
        (guider,) = nodes.MultimodalGuider.execute(**models.guided, view=VIEW).result
        canvas = nodes.EmptySpectrogramLatent.execute(0.64, 1, VIEW).args[0]
        prompts = "a drawing of castles", "church bell ringing"
        search = (guider, models.vae, models.scorer, *prompts, canvas, 7, 1, 1, 1.0, 2, "ddim", "ddim_uniform")
        latent, images, audio, *_ = nodes.KeeperSearch.execute(*search, view=VIEW).result
        assert images.shape == (1, 512, COLUMNS, 3) and audio["waveform"].shape == (1, 1, 63 * 441) and audio["sample_rate"] == RATE
        with pytest.raises(ValueError, match="KeeperSearch: latent_image was made with view Riffusion, but view is two-row square here"):
            nodes.KeeperSearch.execute(*search, view="two-row square")
        search = (guider, models.vae, models.scorer, *prompts, {"samples": canvas["samples"]}, *search[6:])  # as VAE Encode makes it
        with pytest.raises(ValueError, match="KeeperSearch: view is two-row square, but the guider has view Riffusion: another sound"):
            nodes.KeeperSearch.execute(*search, view="two-row square")
        with pytest.raises(ValueError, match="KeeperSearch: view is Riffusion, .* Disconnect vocoder"):
            nodes.KeeperSearch.execute(*search, vocoder=VOCODER, view=VIEW)


def test_silence_beside_examples_is_white(nodes, models):
    seen = []
    vae = SimpleNamespace(encode=lambda pixels: seen.append(pixels) or models.vae.encode(pixels), decode=None, latent_channels=4)
    with torch.inference_mode():
        nodes.ExamplesAsModel.execute(torch.full((1, 512, 64, 3), 0.5), vae, 0.0, "1", False, view=VIEW, repeat=False)
    assert all(pixels.shape[1] == 512 and float(pixels[:, :, 0].min()) == 1.0 for pixels in seen)


def test_auffusions_picture_in_riffusions_format_is_named(nodes, played):
    plain = torch.rand(1, 256, 64, 3)
    told = ": spectrogram is 256 pixels high, but view Riffusion has 512. A spectrogram of 256 rows is Auffusion's: set view to none"
    runs = {
        "SpectrogramToAudio": lambda node: node.execute(plain, view=VIEW),
        "TrimCanvas": lambda node: node.execute(plain, played, 8, VIEW),
        "CycleConsistency": lambda node: node.execute(plain, played, VIEW),
        "RenormalizeSpectrogram": lambda node: node.execute(plain, "gray", view=VIEW),
        "ImprintBaseline": lambda node: node.execute(plain, plain, 0.5, view=VIEW),
    }
    for name, run in runs.items():
        with pytest.raises(ValueError, match=name + told):
            run(getattr(nodes, name))
    with pytest.raises(ValueError, match="ViewCanvas: canvas is 64 x 256 pixels; view Riffusion takes 512 rows"):
        nodes.ViewCanvas.execute(plain, VIEW)


def test_riffusions_picture_in_auffusions_format_is_named_and_not_played(nodes, picture, played):
    told = ": spectrogram is 64 x 512 pixels; a spectrogram is 256 high.*Riffusion.*white is silence.*negative would be heard"
    runs = {
        "SpectrogramToAudio": lambda node: node.execute(picture),
        "TrimCanvas": lambda node: node.execute(picture, played, 8),
        "CycleConsistency": lambda node: node.execute(picture, played),
        "RenormalizeSpectrogram": lambda node: node.execute(picture, "gray"),
        "ImprintBaseline": lambda node: node.execute(picture, picture, 0.5),
        "ExamplesToAudio": lambda node: node.execute(picture, played, 1.0),
    }
    for name, run in runs.items():
        with pytest.raises(ValueError, match=name + told):
            run(getattr(nodes, name))


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


def in_graph(nodes, image, view, **upstream):
    """SpectrogramToAudio's sound of a picture, as node "9" of a graph whose other nodes are given by their numbers."""
    player = nodes.SpectrogramToAudio.PREPARE_CLASS_CLONE(None)
    prompt = {"9": node("SpectrogramToAudio", spectrogram=["8", 0], view=view)} | {name[1:]: made for name, made in upstream.items()}
    player.hidden = SimpleNamespace(prompt=prompt, extra_pnginfo=None, unique_id="9")
    return player.execute(image, iterations=1, view=view).args[0]


@pytest.fixture
def known(nodes, monkeypatch):
    """The pack's nodes, and those of ComfyUI's that graphs here have, as a server knows them."""
    core = {name: comfyui.NODE_CLASS_MAPPINGS[name] for name in ("KSampler", "LoadImage", "VAEDecode")}
    monkeypatch.setattr(comfyui, "NODE_CLASS_MAPPINGS", {node.GET_SCHEMA().node_id: node for node in vars(nodes).values()} | core)


MADE = {
    "MultimodalKSampler": lambda view: {"_7": node("MultimodalKSampler", view=view), "_8": node("VAEDecode", samples=["7", 0])},
    "EmptySpectrogramLatent": lambda view: {
        "_6": node("EmptySpectrogramLatent", view=view),
        "_7": node("KSampler", latent_image=["6", 0]),
        "_8": node("VAEDecode", samples=["7", 0]),
    },
    "AudioToSpectrogram": lambda view: {"_8": node("AudioToSpectrogram", view=view)},
    "KeeperSearch": lambda view: {"_7": node("KeeperSearch", view=view), "_8": node("RenormalizeSpectrogram", spectrogram=["7", 1])},
}


@pytest.mark.parametrize("maker", MADE)
def test_a_picture_of_the_other_format_and_the_same_height_is_named_and_not_played(nodes, known, picture, maker):
    told = rf"was made with view Riffusion \(in {maker}\), where white is silence, but view is two-row square here: its negative"
    with pytest.raises(ValueError, match=f"^SpectrogramToAudio: spectrogram {told} would be heard"):
        in_graph(nodes, picture, "two-row square", **MADE[maker]("Riffusion"))
    with pytest.raises(ValueError, match=r"made with view two-row square .* black is silence, .* Set view to two-row square, and"):
        in_graph(nodes, picture, VIEW, **MADE[maker]("two-row square"))
    for view in (VIEW, "two-row square"):
        assert in_graph(nodes, picture, view, **MADE[maker](view))["sample_rate"] == (RATE if view == VIEW else 16000)


def test_riffusions_picture_laid_out_as_a_square_is_named_and_not_played(nodes, known, picture):
    made = {"_6": node("MultimodalKSampler", view=VIEW), "_7": node("VAEDecode", samples=["6", 0])}
    laid_out = nodes.ViewCanvas.execute(picture, "two-row square").args[0]
    with pytest.raises(ValueError, match="Set view to Riffusion, and connect the picture as it was made, without ViewCanvas"):
        in_graph(nodes, laid_out, "none", **made, _8=node("ViewCanvas", canvas=["7", 0], view="two-row square"))


def test_what_a_graph_does_not_say_for_certain_is_played(nodes, known, picture, played):
    plain = nodes.AudioToSpectrogram.execute(played, 0.64).args[0]
    riffusion, loaded = node("AudioToSpectrogram", view=VIEW), node("LoadImage", image="square.png")
    graphs = {
        "a Riffusion picture imprinted on Auffusion's": {
            "_6": riffusion,
            "_7": node("AudioToSpectrogram"),
            "_8": node("ImprintBaseline", image=["6", 0], spectrogram=["7", 0]),
        },
        "one imprinted on a file": {"_6": riffusion, "_7": loaded, "_8": node("ImprintBaseline", image=["6", 0], spectrogram=["7", 0])},
        "its sound seen in the other format": {
            "_5": riffusion,
            "_6": node("SpectrogramToAudio", spectrogram=["5", 0], view=VIEW),
            "_7": node("ImprintRecording", audio=["6", 0]),
            "_8": node("RenormalizeSpectrogram", spectrogram=["7", 1]),
        },
        "a view from another node": {"_7": loaded, "_8": node("AudioToSpectrogram", view=["7", 0])},
        "another pack's node": {"_7": riffusion, "_8": node("SomebodysPicture", image=["7", 0])},
    }
    for graph in graphs.values():
        assert in_graph(nodes, plain, "none", **graph)["sample_rate"] == 16000


def test_a_vocoder_is_refused(nodes, picture):
    with pytest.raises(ValueError, match="SpectrogramToAudio: view is Riffusion, whose 512 rows no vocoder .* Griffin-Lim makes the sound"):
        nodes.SpectrogramToAudio.execute(picture, VOCODER, view=VIEW)


@pytest.mark.parametrize(("made", "sampled"), [(VIEW, "two-row square"), ("two-row square", VIEW)])
def test_a_canvas_of_one_view_in_a_sampler_of_another_is_named(nodes, models, made, sampled):
    canvas = nodes.EmptySpectrogramLatent.execute(1.28, 1, made).args[0]
    with pytest.raises(ValueError, match=f"MultimodalKSampler: latent_image was made with view {made}, but view is {sampled} here"):
        ksample(nodes, models, canvas, sampled)


def test_a_canvas_of_another_height_is_named_by_the_guider(nodes, models):
    canvas = nodes.EmptySpectrogramLatent.execute(0.64, 1).args[0]
    with pytest.raises(ValueError, match=r"the audio model would see 32 x 8, and a spectrogram is 64 high.* encode a picture 512 pixels"):
        ksample(nodes, models, canvas)


def test_both_formats_live_in_one_graph(nodes, models):
    """Each canvas with its own view: none of them is changed by the other's having run."""
    plain = nodes.EmptySpectrogramLatent.execute(0.64, 1).args[0]
    before = ksample(nodes, models, plain, "none")["samples"]
    ksample(nodes, models, nodes.EmptySpectrogramLatent.execute(0.64, 1, VIEW).args[0])
    assert torch.equal(ksample(nodes, models, plain, "none")["samples"], before)
