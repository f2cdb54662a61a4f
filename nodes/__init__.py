"""Thin ComfyUI nodes, a file a family: sockets, tooltips, checks, devices, progress. The mathematics is in itsound_core."""
