"""Training on another machine: what travels there comes out as it went in, and the UNet that comes back is a diffusers folder."""

import json
import sys

import numpy as np
import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors.torch import load_file

pytest.importorskip("scipy")
from lab.train import on_gpu, pack, train_unet  # noqa: E402
from lab.train.latent_code import LatentCode  # noqa: E402

CODE = LatentCode(np.eye(4, 64), np.eye(64, 4), 0.5)


def shard(count: int, labels: list[str], seed: int = 0) -> tuple[torch.Tensor, list[str]]:
    latents = torch.randn(count, 4, 32, 128, generator=torch.Generator().manual_seed(seed))
    return latents, [labels[i % len(labels)] for i in range(count)]


def embeddings(keys: list[str]) -> dict[str, torch.Tensor]:
    """Every prompt's embedding is of one value, which says which it is."""
    return {"": torch.zeros(1, 77, 128)} | {key: torch.full((2, 77, 128), float(i + 1)) for i, key in enumerate(keys)}


def test_drawings_come_out_of_the_pack_as_they_went_in(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    learnt = {label: {f"set:{i}, relief": rng.integers(0, 256, (2, 256, 256), np.uint8) for i in range(2)} for label in ("castle", "dog")}
    apart = {"castle": rng.integers(0, 256, (2, 256, 256), np.uint8)}
    monkeypatch.setattr(pack, "learnt_drawings", lambda data: learnt)
    monkeypatch.setattr(pack, "apart_drawings", lambda data: apart)
    pack.pack_drawings(tmp_path, tmp_path)
    unpacked, unpacked_apart = pack.unpacked_drawings(tmp_path)
    assert list(unpacked) == list(learnt) and list(unpacked["dog"]) == list(learnt["dog"])
    assert all((unpacked[label][name] == drawing).all() for label, named in learnt.items() for name, drawing in named.items())
    assert (unpacked_apart["castle"] == apart["castle"]).all()


def test_sounds_come_out_of_the_pack_within_half_a_step(tmp_path):
    (tmp_path / "sounds").mkdir()
    pictures = np.random.default_rng(0).integers(0, 256, (3, 256, 1024), np.uint8)
    for split in pack.SOUNDS:
        np.save(tmp_path / "sounds" / f"{split}.npy", pictures)
        (tmp_path / "sounds" / f"{split}.json").write_text(json.dumps([{"class": label} for label in ("bell", "flute", "bell")]))
    pack.pack_sounds(tmp_path, tmp_path, CODE)
    pack.unpack_sounds(tmp_path, tmp_path / "latents")
    assert {file.name for file in (tmp_path / "latents").iterdir()} == {
        "learnt-sounds-train-0.pt", "learnt-sounds-pairs-0.pt", "apart-sounds-dev-0.pt",
    }  # fmt: skip
    kept = torch.load(tmp_path / "latents" / "learnt-sounds-train-0.pt", weights_only=True)
    assert kept["labels"] == ["bell", "flute", "bell"]
    torch.testing.assert_close(kept["latents"].float(), CODE.encode(pictures), atol=pack.STEP / 2 + 1e-3, rtol=1e-3)


def test_a_window_is_a_stretch_of_a_canvas_that_closes_on_itself_beside_a_prompt_of_its_class(tmp_path):
    latents, labels = shard(2, ["castle, row", "dog, row"])
    pack.save_shard(latents, labels, tmp_path / "learnt-000.pt")
    bank = on_gpu.Bank(tmp_path, embeddings(["castle, row", "dog, row"]), {}, torch.device("cpu"))
    assert bank.take_up() == 2
    drawn, texts = bank.draw(8, 64, null_share=0.0)
    for window, text in zip(drawn, texts, strict=True):
        canvas = latents[int(text.mean()) - 1].half()
        assert any(torch.equal(window, canvas.roll(-shift, dims=-1)[..., :64]) for shift in range(128))


def test_shards_that_appear_later_are_taken_up_and_classes_can_be_drawn_more_often(tmp_path):
    keys = ["bell", "bell+flute", "flute"]
    bank = on_gpu.Bank(tmp_path, embeddings(keys), {"bell": 1e6}, torch.device("cpu"))
    assert bank.take_up() == 0
    for index in range(2):
        pack.save_shard(*shard(6, keys, index), tmp_path / f"learnt-{index}.pt")
        assert bank.take_up() == 6 * (index + 1)
    _, texts = bank.draw(64, 32, null_share=0.0)
    assert set(texts.mean(dim=(1, 2)).tolist()) == {1.0, 2.0}  # never the flute alone
    _, texts = bank.draw(64, 32, null_share=1.0)
    assert not texts.any()


def test_training_leaves_a_unet_in_half_precision_and_its_loss_by_noise_level(tmp_path, monkeypatch):
    keys = ["castle, row", "dog, row"]
    for name in ("latents-image", "text-image"):
        (tmp_path / name).mkdir()
    pack.save_shard(*shard(4, keys), tmp_path / "latents-image" / "learnt-000-005.pt")
    pack.save_shard(*shard(2, keys, 1), tmp_path / "latents-image" / "apart.pt")
    torch.save(embeddings(keys), tmp_path / "text-image" / "drawn.pt")
    monkeypatch.setattr(on_gpu, "unet_of", lambda side: train_unet.build_unet((32, 32, 32)))
    monkeypatch.setattr(on_gpu, "READ_EVERY", 1)
    options = f"--side image --data {tmp_path} --output {tmp_path}/out --minutes 0.03 --device cpu --no-compile --windows 32x1 --first 4"
    monkeypatch.setattr(sys, "argv", ["on_gpu", *options.split()])
    on_gpu.main()
    folder = tmp_path / "out" / "unet-image"
    UNet2DConditionModel.from_pretrained(folder)
    weights = load_file(folder / "diffusion_pytorch_model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.float16}
    for name in ("", "-learnt"):
        header, *rows = (tmp_path / "out" / f"levels{name}-image.csv").read_text().splitlines()
        assert header.startswith("step") and len(rows) == 1
