"""The clips of the built-in data set, and the scenes in which they are filmed.

A class is a pair of a shape and a texture, or a trajectory (`trajectories`). Everything else (camera, backdrop,
colours, sizes, paths) is random, from ranges that train and test don't share. Each scene films every class once, so
that colour, backdrop and frame size carry no information about the class.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vclimb.pipeline.synth.random_numbers import RandomNumbers
from vclimb.pipeline.synth.shapes import HUES, SHAPES, TEXTURES, Colour, colour_of
from vclimb.pipeline.synth.trajectories import TRAJECTORIES, TRAJECTORY_NAMES, Trajectory

Difference = Literal["appearance", "motion"]
"""What tells classes apart: shape and texture of the objects, or the order of the frames."""

# A Latin square: any first n classes use shapes and textures evenly, so that neither alone tells the class.
CLASSES = tuple(
    (list(TEXTURES)[(number // 4 + number) % 4], list(SHAPES)[number % 4])
    for number in range(len(TEXTURES) * len(SHAPES))
)
CLASS_NAMES: dict[str, tuple[str, ...]] = {
    "appearance": tuple(f"{texture}_{shape}" for texture, shape in CLASSES),
    "motion": TRAJECTORY_NAMES,
}
"""Names of all classes, by what tells classes apart."""
SPLITS = ("train", "test")

_SIZES = ((160, 120), (128, 128), (120, 160), (176, 144), (192, 108), (144, 176), (160, 90))
_RATES = (25, 12, 30, 15, 24)
_CONTAINERS = ("mp4", "avi", "webm")
_SECTORS = 12
_SECTOR_HUES = HUES // _SECTORS
_USED_HUES = _SECTOR_HUES * 3 // 4  # a sector's edges are left out, so that the splits' hues are well apart
_MILLISECONDS = range(1000, 2501)
_N_OBJECTS = 2
# Purposes of random numbers.
_CAMERA, _LOOK, BACKDROP, _CLIP, MOTION = range(5)


@dataclass(frozen=True)
class Style:
    """Ranges of the random values of a split. No two splits share a value.

    Attributes:
        sectors: Twelfths of the colour circle that hold the hues.
        radii: Radii of objects, in thousandths of the frame's short side.
        cells: Sizes of texture cells, in thousandths of the object's radius.
        speeds: Speeds of objects, in thousandths of the frame a second.
        spins: Angular speeds of objects, in 1024ths of a turn a second.
        pans: Speeds of the backdrop, in pixels a second.
        orbits: Whether objects move on closed curves, rather than to and fro on straight lines.
    """

    sectors: tuple[int, ...]
    backdrops: tuple[str, ...]
    radii: tuple[range, ...]
    cells: tuple[range, ...]
    speeds: range
    spins: range
    pans: range
    orbits: bool

    @property
    def n_hues(self) -> int:
        return len(self.sectors) * _USED_HUES

    def hue(self, position: int) -> int:
        """Hue (0 to 1535) at a position among the split's hues; positions wrap around."""
        sector, within = divmod(position % self.n_hues, _USED_HUES)
        return self.sectors[sector] * _SECTOR_HUES + (_SECTOR_HUES - _USED_HUES) // 2 + within


STYLES = {
    "train": Style(
        sectors=(0, 2, 4, 6, 8, 10),
        backdrops=("clouds", "plaid", "blocks"),
        radii=(range(230, 260), range(290, 330)),
        cells=(range(290, 330), range(370, 410)),
        speeds=range(150, 500),
        spins=range(40, 150),
        pans=range(2, 9),
        orbits=False,
    ),
    "test": Style(
        sectors=(1, 3, 5, 7, 9, 11),
        backdrops=("cells", "ripples"),
        radii=(range(260, 290),),
        cells=(range(330, 370),),
        speeds=range(500, 800),
        spins=range(150, 250),
        pans=range(9, 15),
        orbits=True,
    ),
}


@dataclass(frozen=True)
class Look:
    """Appearance of one object of a scene, the same for every class.

    Attributes:
        tones: (saturation, value), 0 to 255 each, of a dark and a bright colour, in either order.
        radius: Radius in thousandths of the frame's short side.
        cell: Size of a texture cell in thousandths of the radius.
    """

    tones: tuple[tuple[int, int], tuple[int, int]]
    radius: int
    cell: int


@dataclass(frozen=True)
class Scene:
    """Camera, backdrop and appearance of the objects in all clips of a group.

    Attributes:
        backdrop_colours: Two RGB colours; all colours of the backdrop lie between them.
    """

    width: int
    height: int
    rate: int
    backdrop: str
    backdrop_colours: tuple[Colour, Colour]
    looks: tuple[Look, ...]


@dataclass(frozen=True)
class Clip:
    """One video of the data set. The five values decide all its pixels.

    Attributes:
        class_number: Position of the class in `CLASS_NAMES`.
        index: Number of the scene within the split, from 0.
        told_apart_by: What tells classes apart.
    """

    seed: int
    class_number: int
    split: str
    index: int
    told_apart_by: Difference = "appearance"

    @property
    def label(self) -> str:
        return CLASS_NAMES[self.told_apart_by][self.class_number]

    @property
    def trajectory(self) -> Trajectory | None:
        """Trajectory of the objects; None where classes are told apart by appearance."""
        return TRAJECTORIES[self.class_number] if self.told_apart_by == "motion" else None

    @property
    def style(self) -> Style:
        return STYLES[self.split]

    @property
    def group(self) -> str:
        return f"{self.split}-scene{self.index:03d}"

    @property
    def path(self) -> str:
        """Path of the video file, relative to the data set's folder."""
        container = _CONTAINERS[(self.class_number + self.index) % len(_CONTAINERS)]
        return f"videos/{self.label}/{self.split}_{self.index:03d}.{container}"

    def scene(self) -> Scene:
        """Draw the scene, which all clips of the group share."""
        # Sizes and rates cycle from a random start, so that a small data set has several of each.
        camera = self.rng(_CAMERA)
        width, height = _SIZES[(camera.below(len(_SIZES)) + self.index) % len(_SIZES)]
        rate = _RATES[(camera.below(len(_RATES)) + self.index) % len(_RATES)]
        rng, style = self.rng(_LOOK, self.index), self.style
        return Scene(
            width,
            height,
            rate,
            backdrop=style.backdrops[rng.below(len(style.backdrops))],
            backdrop_colours=(
                colour_of(style.hue(rng.below(style.n_hues)), 60 + rng.below(100), 100 + rng.below(25)),
                colour_of(style.hue(rng.below(style.n_hues)), 60 + rng.below(100), 135 + rng.below(30)),
            ),
            looks=tuple(_draw_look(rng, style) for _ in range(_N_OBJECTS)),
        )

    def n_frames(self) -> int:
        """Number of frames: 1 to 2.5 seconds at the scene's rate."""
        # All trajectories of a scene have equal lengths, since a length would tell the class of each frame.
        which = (self.index,) if self.trajectory else (self.index, self.class_number)
        return self.scene().rate * self.rng(_CLIP, *which).among(_MILLISECONDS) // 1000

    def rng(self, purpose: int, *which: int) -> RandomNumbers:
        return RandomNumbers(self.seed, SPLITS.index(self.split), purpose, *which)


def _draw_look(rng: RandomNumbers, style: Style) -> Look:
    # Brightness shows the texture, so the backdrop's brightness lies between that of an object's two colours.
    dark = 60 + rng.below(130), 15 + rng.below(40)
    bright = 20 + rng.below(70), 225 + rng.below(31)
    tones = (dark, bright) if rng.below(2) else (bright, dark)
    return Look(tones, rng.among(*style.radii), rng.among(*style.cells))
