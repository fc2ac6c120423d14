"""Settings of a run's memory, with the codec that fits its method and its data set."""

from __future__ import annotations

from vclimb.memory.choice.budget import MemoryBudget
from vclimb.memory.feature_codec import FeatureCodec, keeps_features, parse_feature_codec
from vclimb.memory.sample import ARRAY_BYTES, CLASS_BYTES, EXEMPLAR_BYTES, ROOT_BYTES
from vclimb.memory.settings import AUTO, PILOT, MemorySettings
from vclimb.methods.method import Method
from vclimb.model.frame_model import FrameModel, kept_frames
from vclimb.model.registry import NETWORKS
from vclimb.pipeline.arrays import Indices
from vclimb.pipeline.errors import SettingsError
from vclimb.pipeline.sizes import size_text
from vclimb.training.config import RunConfig
from vclimb.training.ledger import network_size

AUTO_FEATURES = "features:fp16"
"""Codec that `auto` stands for where a method replays features."""


def memory_settings(config: RunConfig, method: Method, stored_codec: str) -> MemorySettings:
    """Make the settings of a run's memory, with a codec in place of `auto`.

    Args:
        stored_codec: Codec of the data set.

    Raises:
        SettingsError: the codec doesn't fit the method, or can't take the data set's frames.
    """
    settings = config.memory.settings(method.video_choice, config.seed, method.differences.memory_remainder)
    if not method.replays:
        return settings
    if method.replays_features:
        return _of_features(settings, method)
    if settings.keeps_features:
        raise SettingsError(
            f"memory.codec {settings.codec} keeps features in place of frames, and method {method.name} replays "
            "frames; take a codec of frames, such as jpeg:75, or method features"
        )
    return settings.fitting(stored_codec)


def candidate_settings(config: RunConfig, method: Method, stored_codec: str) -> list[MemorySettings]:
    """List the settings of a memory that a pilot compares: codecs and numbers of frames that are left open.

    Frames are one, a quarter of a clip's, half of them, or all; tiny videos have half or more. Smaller pictures aren't
    among them: where the network sees larger ones they were ruinous (docs/study-jhmdb21.md).

    Args:
        stored_codec: Codec of the data set.
    """
    settings, clip_frames = memory_settings(config, method, stored_codec), config.model.clip_frames
    piloted = config.memory.frames == PILOT
    counts = sorted({1, *(-(-clip_frames // part) for part in (4, 2, 1))}) if piloted else [settings.frames]
    candidates = []
    for count in counts:
        codecs = [settings.codec]
        if config.memory.codec == PILOT:
            codecs = ["copy" if stored_codec == "jpeg" else "jpeg:75", "jpeg:50"]
            if count == "all" or (count > 1 and (not piloted or 2 * count >= clip_frames)):
                codecs += ["h264:24", "h264:28", "h264:32"]
        candidates += [settings.replaced(codec=codec, frames=count) for codec in codecs]
    return candidates


def check_features(config: RunConfig, method: Method) -> None:
    """Refuse a memory that can't keep the features which a method replays, by a SettingsError."""
    budget = MemoryBudget.parse(config.memory.budget)
    if not method.replays_features:
        return
    settings = _of_features(config.memory.settings(method.video_choice, config.seed), method)
    codec = parse_feature_codec(settings.codec)
    check_frames(config, codec)
    least = ROOT_BYTES + feature_class_bytes(settings) + EXEMPLAR_BYTES + feature_bytes(config, codec)
    if budget.kind == "bytes" and least > budget.amount:
        what = "features of frames" if codec.of_frames else "a feature"
        raise SettingsError(
            f"budget {budget} is {budget.amount:,} bytes, and a memory of one video takes about {least:,} ({what} "
            f"as {settings.encoding}); allow more, such as {size_text(-(-100 * least // 10**6) * 10**6)}"
        )


def frames_to_keep(config: RunConfig, method: Method) -> Indices | None:
    """Choose the frames of a clip whose features a run keeps: (K,) numbers; None where it keeps no frames' features."""
    codec = config.memory.codec
    if not method.replays_features or not keeps_features(codec) or not parse_feature_codec(codec).of_frames:
        return None
    return kept_frames(config.model.clip_frames, frame_count(config))


def frame_count(config: RunConfig) -> int:
    """Get the number of a clip's frames whose features a run keeps, K, or raise a SettingsError."""
    count, n_frames = config.memory.frames, config.model.clip_frames
    if isinstance(count, int) and count <= n_frames:
        return count
    if count == "all":
        return n_frames
    raise SettingsError(
        f"memory.frames {count} is no number of frames of a clip (model.clip_frames {n_frames}), whose features "
        f"memory.codec {config.memory.codec} keeps; allowed: 1 to {n_frames}, or all"
    )


def feature_bytes(config: RunConfig, codec: FeatureCodec) -> int:
    """Count the bytes that a video's features take in the files of a memory."""
    sizes = network_size(config.model, config.training.frozen)
    if not codec.of_frames:
        return codec.n_bytes(sizes.n_features)
    return codec.n_bytes(sizes.n_frame_features, frame_count(config))


def check_frames(config: RunConfig, codec: FeatureCodec) -> None:
    """Refuse frame features where the network computes none, or not of so many frames, by a SettingsError."""
    if not codec.of_frames:
        return
    network = config.model.network
    if not issubclass(NETWORKS.find(network), FrameModel):
        raise SettingsError(
            f"memory.codec {codec} keeps features of frames, and network {network} computes none; take network tsn, "
            f"tsm or tcn, or features:{codec.dtype}, which keeps a feature of the clip"
        )
    frame_count(config)


def feature_class_bytes(settings: MemorySettings) -> int:
    """Estimate the bytes of a class in a memory of features, besides its exemplars."""
    return CLASS_BYTES + ARRAY_BYTES * parse_feature_codec(settings.codec).has_scale


def _of_features(settings: MemorySettings, method: Method) -> MemorySettings:
    if settings.codec == AUTO:
        return settings.replaced(codec=AUTO_FEATURES)
    if not settings.keeps_features:
        raise SettingsError(
            f"method {method.name} replays features, and memory.codec {settings.codec} keeps frames; allowed: "
            f"features:fp32, {AUTO_FEATURES} (auto), features:int8, or frame-features with one of these types"
        )
    return settings
