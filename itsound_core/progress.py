"""What work that takes seconds tells its caller."""

from __future__ import annotations

from collections.abc import Callable

OnStep = Callable[[int, int], None]
"""Called with (steps done, steps in all) after each step; what it raises ends the work."""
