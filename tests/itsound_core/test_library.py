"""The core is a library in its own right."""

import doctest

import itsound_core


def test_the_docstrings_example_goes_from_noise_to_sound_without_comfyui():
    assert doctest.testmod(itsound_core) == (0, 13)
