"""What is drawn: the clips of the built-in data set, and the scenes that they are filmed in.

A class is a shape and a texture. Everything else (camera, backdrop, colours, sizes, paths) is drawn at random from
ranges that train and test don't share. Each scene films every class once, so that nothing but the objects' shape and
texture tells the classes apart: neither colour nor backdrop nor frame size does.
"""

from __future__ import annotations

from dataclasses import dataclass

from vclimb.pipeline.synth.draws import Draws
from vclimb.pipeline.synth.shapes import HUES, SHAPES, TEXTURES, Colour, colour_of

# A Latin square: the first so many classes share shapes and textures as evenly as can be, so that neither alone tells.
CLASSES = tuple(
    (list(TEXTURES)[(number // 4 + number) % 4], list(SHAPES)[number % 4])
    for number in range(len(TEXTURES) * len(SHAPES))
)
CLASS_NAMES = tuple(f"{texture}_{shape}" for texture, shape in CLASSES)
SPLITS = ("train", "test")

_SIZES = ((160, 120), (128, 128), (120, 160), (176, 144), (192, 108), (144, 176), (160, 90))
_RATES = (25, 12, 30, 15, 24)
_CONTAINERS = ("mp4", "avi", "webm")
_SECTORS = 12
_SECTOR_HUES = HUES // _SECTORS
_USED_HUES = _SECTOR_HUES * 3 // 4  # a sector's edges are left out, so that the splits' hues are well apart
_MILLISECONDS = range(1000, 2501)
_N_OBJECTS = 2
# What draws are for, as numbers in their chain.
_CAMERA, _LOOK, _BACKDROP, _CLIP, _MOTION = range(5)


@dataclass(frozen=True)
class Style:
    """What the scenes and clips of a split are drawn from. No two splits share a value of any of it.

    Attributes:
        sectors: which twelfths of the colour circle hues are from.
        backdrops: families of backdrops.
        radii: of objects, in thousandths of the frame's short side.
        cells: of textures, in thousandths of the object's radius.
        speeds: of objects, in thousandths of the way across a second.
        spins: of objects, in 1024ths of a turn a second.
        pans: of the backdrop, in pixels a second.
        orbits: objects move on closed curves; else to and fro on straight lines.
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
        """How many hues there are to draw from."""
        return len(self.sectors) * _USED_HUES

    def hue(self, position: int) -> int:
        """A hue (0 to 1535) by its place among those of the split; places beyond the last begin again."""
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
    """How one object of a scene looks, whatever the class.

    Attributes:
        tones: (saturation, value), 0 to 255 each, of its two colours: one dark, one bright, in either order.
        radius: in thousandths of the frame's short side.
        cell: of its texture, in thousandths of the radius.
    """

    tones: tuple[tuple[int, int], tuple[int, int]]
    radius: int
    cell: int


@dataclass(frozen=True)
class Scene:
    """What all clips of a group share: the camera, the place and the objects' looks.

    Attributes:
        width: pixels.
        height: pixels.
        rate: frames a second.
        backdrop: its family.
        backdrop_colours: RGB; the backdrop lies between the two.
        looks: one for each object.
    """

    width: int
    height: int
    rate: int
    backdrop: str
    backdrop_colours: tuple[Colour, Colour]
    looks: tuple[Look, ...]


@dataclass(frozen=True)
class Clip:
    """One video of the data set, by all that decides its pixels.

    Attributes:
        seed: of the data set.
        class_number: place in `CLASS_NAMES`.
        split: `train` or `test`.
        index: number of the scene among those of the split: 0, 1, ...
    """

    seed: int
    class_number: int
    split: str
    index: int

    @property
    def label(self) -> str:
        """Name of the class."""
        return CLASS_NAMES[self.class_number]

    @property
    def style(self) -> Style:
        """What clips of its split are drawn from."""
        return STYLES[self.split]

    @property
    def group(self) -> str:
        """Name of its scene."""
        return f"{self.split}-scene{self.index:03d}"

    @property
    def path(self) -> str:
        """Of its file, relative to the data set's folder."""
        container = _CONTAINERS[(self.class_number + self.index) % len(_CONTAINERS)]
        return f"videos/{self.label}/{self.split}_{self.index:03d}.{container}"

    def scene(self) -> Scene:
        """What it shares with the clips of its group."""
        # Sizes and rates take turns from a random start, so that a small data set has several of each.
        camera = self._draws(_CAMERA)
        width, height = _SIZES[(camera.below(len(_SIZES)) + self.index) % len(_SIZES)]
        rate = _RATES[(camera.below(len(_RATES)) + self.index) % len(_RATES)]
        draws, style = self._draws(_LOOK, self.index), self.style
        return Scene(
            width,
            height,
            rate,
            backdrop=style.backdrops[draws.below(len(style.backdrops))],
            backdrop_colours=(
                colour_of(style.hue(draws.below(style.n_hues)), 60 + draws.below(100), 100 + draws.below(25)),
                colour_of(style.hue(draws.below(style.n_hues)), 60 + draws.below(100), 135 + draws.below(30)),
            ),
            looks=tuple(_draw_look(draws, style) for _ in range(_N_OBJECTS)),
        )

    def n_frames(self) -> int:
        """How many frames it has: 1 to 2.5 seconds at the scene's rate."""
        return self.scene().rate * self._draws(_CLIP, self.index, self.class_number).among(_MILLISECONDS) // 1000

    def backdrop_draws(self) -> Draws:
        """For the backdrop: the same in all clips of the group."""
        return self._draws(_BACKDROP, self.index)

    def motion_draws(self) -> Draws:
        """For what is this clip's own: paths, phases, noise."""
        return self._draws(_MOTION, self.index, self.class_number)

    def _draws(self, purpose: int, *which: int) -> Draws:
        return Draws(self.seed, SPLITS.index(self.split), purpose, *which)


def _draw_look(draws: Draws, style: Style) -> Look:
    # A texture shows in its brightness, and the backdrop's lies between the two.
    dark = 60 + draws.below(130), 15 + draws.below(40)
    bright = 20 + draws.below(70), 225 + draws.below(31)
    tones = (dark, bright) if draws.below(2) else (bright, dark)
    return Look(tones, draws.among(*style.radii), draws.among(*style.cells))
