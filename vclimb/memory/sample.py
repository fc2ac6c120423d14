"""The cost of exemplars, measured on a sample of instances: for plans, before a memory is made."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vclimb.memory.choice.frames import FrameChoice
from vclimb.memory.store.chunks import encode_chunk
from vclimb.pipeline.arrays import Indices, Pixels
from vclimb.pipeline.clips.provider import InstanceProvider, source_frames
from vclimb.pipeline.codecs.exemplar import ExemplarCodec
from vclimb.pipeline.dataset.dataset import StoredDataset, StoredInstance
from vclimb.pipeline.errors import FrameDamagedError

# Bytes besides the frames: of an empty memory, of the metadata of a class, and of an exemplar's row in the table.
ROOT_BYTES, CLASS_BYTES, EXEMPLAR_BYTES = 450, 2500, 40
CLASS_INDEX_BYTES = 1300  # of the metadata of a class, what lies in the index
ARRAY_BYTES = 1000  # of the metadata of an array that a class keeps beside its frames and its table
ARRAY_FILE_BYTES = 400  # of the metadata of an array, what lies in a file of its own


def spread_sample(instances: Sequence[StoredInstance], n_videos: int) -> list[StoredInstance]:
    """Choose up to `n_videos` instances that are spread evenly over a list."""
    return [instances[place] for place in np.unique(np.linspace(0, len(instances) - 1, n_videos).astype(int))]


def bytes_per_frame(
    dataset: StoredDataset, instances: Sequence[StoredInstance], codec: ExemplarCodec, choice: FrameChoice
) -> float:
    """Measure the mean bytes on disk of a kept frame of some instances.

    Raises:
        FrameDamagedError: a frame of the data set doesn't decode.
        SettingsError: the codec can't take the data set's frames.
    """
    provider = InstanceProvider(dataset, list(instances))
    n_bytes = n_frames = 0
    for item in range(len(instances)):

        def pixels(numbers: Indices, item: int = item) -> Pixels:
            return source_frames(provider, item, numbers).pixels

        numbers = choice.choose(int(provider.items.n_frames[item]), str(provider.items.keys[item]), pixels)
        encoded = codec.encode(source_frames(provider, item, numbers))
        n_bytes += len(encode_chunk(b"".join(encoded.clip.units)))
        n_frames += len(numbers)
    return n_bytes / n_frames


def least_memory_bytes(
    dataset: StoredDataset, codec: ExemplarCodec, choice: FrameChoice, enough: int | None = None
) -> int:
    """Estimate the bytes of a memory that keeps one exemplar: of the instance that keeps the fewest pixels.

    It is 0 where a frame of that instance is damaged.

    Args:
        enough: Bytes that are enough where even the pixels fit in them: nothing is encoded then, and 0 returned.
    """

    instances = dataset.instances
    lengths, place_of_length = np.unique(
        instances.numbers("end_frame") - instances.numbers("start_frame"), return_inverse=True
    )
    n_chosen = np.array([choice.n_chosen(length) for length in lengths.tolist()], np.int64)[place_of_length]
    n_pixels = n_chosen * instances.of_video("width") * instances.of_video("height")
    place = int(np.argmin(n_pixels))
    smallest = instances[place]
    overhead = ROOT_BYTES + CLASS_BYTES + EXEMPLAR_BYTES
    if enough is not None and overhead + 3 * int(n_pixels[place]) <= enough:
        return 0
    n_frames = choice.n_chosen(smallest.end_frame - smallest.start_frame)
    try:
        return overhead + round(n_frames * bytes_per_frame(dataset, [smallest], codec, choice))
    except FrameDamagedError:  # the memory passes over it
        return 0
