"""Unmasking in C where the platform has it."""

from __future__ import annotations

from websockets.utils import apply_mask as apply_mask_in_python

try:
    from websockets.speedups import apply_mask as apply_mask
except ImportError:  # pragma: no cover - a platform without the extension module
    apply_mask = apply_mask_in_python
