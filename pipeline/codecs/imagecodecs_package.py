"""What the codecs that imagecodecs encodes and decodes have in common.

Its decoders write into `out`, and refuse a picture of another shape before they decode its pixels.
"""

from __future__ import annotations

from typing import ClassVar

import imagecodecs

from vclimb.pipeline.codecs.codec import PictureCodec


class ImagecodecsCodec(PictureCodec):
    """A picture codec of imagecodecs.

    Attributes:
        constants: Name of the codec's constants in imagecodecs, such as `WEBP`.
    """

    constants: ClassVar[str]

    def lacking(self) -> str | None:
        if getattr(imagecodecs, self.constants).available:
            return None
        version, package = imagecodecs.__version__, "PyPI's wheels have: pip install imagecodecs"
        return f"imagecodecs {version} has no {self.constants} ({package})"
