"""Where this program keeps what it can make or fetch again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir() -> Path:
    """`$CONVNEXT_CACHE`, by default `~/.cache/convnext`. Raises RuntimeError where there is no home folder."""
    return Path(os.environ.get("CONVNEXT_CACHE") or "~/.cache/convnext").expanduser()
