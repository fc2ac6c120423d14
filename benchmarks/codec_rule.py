"""Apply MRDC's rule for the quality of compressed exemplars to codecs and numbers of frames of whole videos.

    python benchmarks/codec_rule.py shards/jhmdb21 --weights tf_efficientnet_lite0_in1k.safetensors --videos 10

MRDC (Wang et al., ICLR 2022) keeps the coarsest quality at which the features of the compressed exemplars of a class
span the volume of the originals': R = V(compressed) / V(originals) near 1, with V = sqrt(det(D D^T)) for the (n, D)
features of n exemplars, of length 1 each. Prints, for each number of frames K and codec: R as the mean over classes of
the n-th root of the ratio, so that it means the same for any n; the cosine of an exemplar's feature with its
original's; bytes of an exemplar; and the number of exemplars that a budget holds.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from pathlib import Path

import torch
from torch import Tensor

import vclimb
from vclimb.memory.provider import ExemplarProvider
from vclimb.model.inference import InferenceSettings, Share, infer
from vclimb.model.registry import make_network
from vclimb.model.settings import ModelConfig
from vclimb.pipeline.clips.provider import ClipProvider, InstanceProvider
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.sizes import parse_size

CODECS = ("copy", "jpeg:50", "jpeg:25", "jpeg:50@64", "h264:24", "h264:32")
JITTER = 1e-6  # of two equal features, the Gram matrix would be singular


def log_volume(features: Tensor) -> float:
    """Compute log V of features (n, D), divided by n."""
    rows = torch.nn.functional.normalize(features.double(), dim=1)
    gram = rows @ rows.T + JITTER * torch.eye(len(rows), dtype=torch.float64)
    return 0.5 * float(torch.linalg.slogdet(gram)[1]) / len(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="prepared data set")
    parser.add_argument("--weights", default="pretrained", help="weights of the backbone: a file, or pretrained")
    parser.add_argument("--backbone", default="tf_efficientnet_lite0.in1k")
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--videos", type=int, default=10, help="videos of each class")
    parser.add_argument("--frames", nargs="+", type=int, default=[1, 4, 8, 16])
    parser.add_argument("--codecs", nargs="+", default=CODECS)
    parser.add_argument("--budget", default="2MB", help="budget of the last column")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    dataset = StoredDataset.open(options.data)
    device = torch.device(options.device)
    config = ModelConfig(backbone=options.backbone, weights=options.weights, clip_frames=8, size=options.size)
    network = make_network(config, 1).to(device)
    settings = InferenceSettings(n_frames=8, size=options.size, batch_size=32, codec=dataset.settings.codec)

    def features_of(provider: ClipProvider) -> tuple[list[str], Tensor]:
        outputs = infer(network, provider, settings, Share(device))
        return [str(provider.items.keys[item]) for item in outputs.items], outputs.features

    originals: dict[str, Tensor] = {}
    labels: dict[str, str] = {}
    print(f"{options.videos} videos of each of {len(dataset.classes)} classes")
    print(f"| K | codec | R | cosine | bytes of a video | videos in {options.budget} |")
    print("|---|---|---|---|---|---|")
    for frames in options.frames:
        for codec in options.codecs:
            with tempfile.TemporaryDirectory() as folder:
                memory = vclimb.pack(
                    options.data,
                    Path(folder, "memory.zarr"),
                    budget=f"{options.videos * len(dataset.classes)}v",
                    frames=frames,
                    codec=codec,
                    progress=False,
                )
                keys, features = features_of(ExemplarProvider(memory.store))
                n_bytes = memory.bytes_on_disk / len(keys)
            if not originals:  # the same videos are drawn each time
                instances = {instance.key: instance for instance in dataset.instances}
                chosen = [instances[key] for key in keys]
                originals = dict(zip(*features_of(InstanceProvider(dataset, chosen)), strict=True))
                labels = {instance.key: instance.label for instance in chosen}
            differences = []
            for label in dataset.classes:
                places = [place for place, key in enumerate(keys) if labels[key] == label]
                before = torch.stack([originals[keys[place]] for place in places])
                differences.append(log_volume(features[places]) - log_volume(before))
            ratio = math.exp(sum(differences) / len(differences))
            cosine = torch.nn.functional.cosine_similarity(features, torch.stack([originals[key] for key in keys]))
            held = parse_size(options.budget) / n_bytes
            row = (frames, f"`{codec}`", f"{ratio:.3f}", f"{cosine.mean():.3f}", f"{n_bytes:,.0f}", f"{held:,.0f}")
            print("| " + " | ".join(map(str, row)) + " |", flush=True)


if __name__ == "__main__":
    main()
