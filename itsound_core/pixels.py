"""Facts about pictures as files and screens hold them."""

RGB = 3
"""Channels of a colour picture."""
LEVELS = 255
"""Steps from black to white in 8 bits."""
