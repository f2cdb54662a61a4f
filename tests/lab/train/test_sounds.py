"""The sound data: what may be trained on, what is kept apart, and that a clip is what its seed says."""

import numpy as np
import pytest

pytest.importorskip("tinysoundfont", reason="only needed to rebuild the embedded models")
pytest.importorskip("scipy")
from lab.train import sounds  # noqa: E402


@pytest.mark.parametrize("text", ["CC-BY-SA-3.0", "Creative Commons Attribution-ShareAlike 3.0 Unported", "GPL-2+", ""])
def test_a_licence_that_is_not_permissive_is_refused(text):
    with pytest.raises(ValueError, match="bark.ogg.*only CC-BY-3.0, CC0-1.0, MIT may be trained on"):
        sounds.licence(text, "bark.ogg")


def test_the_copyleft_sound_of_the_openttd_catalogue_is_refused(tmp_path):
    tag = b'"Helicopter". Original by "lorenzosu". License: Creative Commons Attribution-ShareAlike 3.0 Unported.\0'
    sound = bytes([len(tag)]) + tag + b"RIFF"
    catalogue = tmp_path / "usr/share/games/openttd/baseset/opensfx/opensfx.cat"
    catalogue.parent.mkdir(parents=True)
    catalogue.write_bytes((8).to_bytes(4, "little") + len(sound).to_bytes(4, "little") + sound)
    with pytest.raises(ValueError, match="Helicopter"):
        sounds.opensfx_sound(tmp_path, 0)


def test_held_out_sources_are_never_trained_on():
    for label in set(sounds.CLASSES) - sounds.SINGLE_SOURCE:
        assert not set(sounds.TRAINING[label]) & set(sounds.HELD_OUT[label]), label


@pytest.mark.parametrize("label", sounds.SCORES)
def test_a_score_is_reproducible_and_inside_the_clip(label):
    for score in sounds.SCORES[label]:
        notes, again = (score(np.random.default_rng(3)) for _ in range(2))
        assert notes == again
        assert notes and all(0 <= start < sounds.SECONDS + 1 and 0 <= key < 128 and length > 0 for start, key, _, length in notes)


def test_placed_recordings_leave_digital_silence_between_them():
    take = sounds.Recording(np.ones(4000, np.float32), "click", "nobody", "CC0-1.0")
    clip = sounds.place([take], (1.0, 1.5), np.random.default_rng(0))
    assert clip.shape == (sounds.SAMPLES,)
    assert 0.5 < np.mean(clip == 0) < 0.9
