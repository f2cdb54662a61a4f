"""The embedded VAE: its encoder is the linear code, and what its training rests on."""

import numpy as np
import pytest
import torch

pytest.importorskip("diffusers", reason="only needed to rebuild the embedded models")
from lab.train import latent_code, train_vae  # noqa: E402


@pytest.fixture(scope="module")
def code() -> latent_code.LatentCode:
    rng = np.random.default_rng(0)
    walks = rng.normal(0, 0.05, (2000, 8, 8)).cumsum(axis=1).cumsum(axis=2) + rng.uniform(0, 1, (2000, 1, 1))
    return latent_code.fit(walks.reshape(2000, 64))[0]


@pytest.mark.parametrize("size", [(64, 64), (32, 128)])
def test_the_encoder_gives_the_linear_code_of_any_picture(code, size):
    picture = torch.rand(3, *size) * torch.tensor([0.2, 1.0, 0.6]).view(3, 1, 1)
    wanted = code.encode(picture)
    vae = train_vae.build_vae()
    train_vae.write_code(vae, code, wanted.square().mean(dim=(0, 2, 3)))
    with torch.no_grad():
        posterior = vae.encode(picture[:, None].expand(-1, 3, -1, -1) * 2 - 1).latent_dist
    assert (posterior.mean * train_vae.SCALING - wanted).norm() < 0.01 * wanted.norm()
    assert posterior.std.max() < 1e-3


def test_the_code_can_be_read_out_of_an_exported_vae(code, tmp_path):
    vae = train_vae.build_vae()
    train_vae.write_code(vae, code, torch.ones(4))
    vae.half().save_pretrained(tmp_path)
    read = latent_code.LatentCode.of_vae(tmp_path)
    picture = torch.rand(2, 64, 64)
    torch.testing.assert_close(read.encode(picture), code.encode(picture), rtol=1e-2, atol=5e-3)
    torch.testing.assert_close(read.decode(read.encode(picture)), code.decode(code.encode(picture)), rtol=1e-2, atol=5e-3)


def test_what_is_exported_decodes_to_gray(tmp_path):
    vae = train_vae.build_vae()
    (tmp_path / "vae").mkdir()
    torch.save({"averaged": vae.state_dict()}, tmp_path / "vae" / "checkpoint.pt")
    exported, latent = train_vae.load_averaged(tmp_path), torch.randn(1, 4, 4, 4)
    with torch.no_grad():
        shown = exported.decode(latent).sample
        torch.testing.assert_close(shown, vae.eval().decode(latent).sample[:, :1].expand_as(shown))
