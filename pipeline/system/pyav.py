"""What has to be said differently to different versions of PyAV."""

from __future__ import annotations

from typing import Any

import av

ANY_TAGS: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}
"""Arguments of `av.open` by which tags in no known encoding are no errors; from PyAV 19 on they never are."""
