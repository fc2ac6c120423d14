"""Drawing the clips of the built-in data set: moving, textured objects on a moving, noisy backdrop.

A class is a shape and a texture. Everything else (colours, sizes, paths, backdrop, camera) is drawn at random,
whatever the class, and from ranges that train and test don't share. All arithmetic is on integers, so that the
same seed gives the same pixels on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.synth_dice import Dice
from pipeline.synth_shapes import (
    BACKDROPS,
    HUES,
    SHAPES,
    SINE_BITS,
    TEXTURES,
    TURN,
    UNIT,
    Colour,
    colour_of,
    cosine,
    sine,
    triangle_wave,
)

Frames = npt.NDArray[np.uint8]
"""(T, H, W, 3): RGB."""

# A Latin square: the first so many classes share shapes and textures as evenly as can be, so neither alone tells.
CLASSES = tuple(
    (list(TEXTURES)[(number // 4 + number) % 4], list(SHAPES)[number % 4])
    for number in range(len(TEXTURES) * len(SHAPES))
)
CLASS_NAMES = tuple(f"{texture}_{shape}" for texture, shape in CLASSES)
SPLITS = ("train", "test")
SIZES = ((160, 120), (128, 128), (120, 160), (176, 144), (192, 108), (144, 176), (160, 90))
RATES = (25, 12, 30, 15, 24)
CLIPS_PER_GROUP = 1
OBJECTS_PER_CLIP = 3
_HUE_SECTORS = 12
_MARGIN = 48  # pixels of backdrop beyond each frame's right and bottom edge, to pan over
_SUB = 64  # positions are counted in 64ths of a pixel
_PURPOSES = ("camera", "look", "motion", "backdrop")


@dataclass(frozen=True)
class Style:
    """What the clips of a split are drawn from. No two splits share a value of any of it.

    Attributes:
        hue_sectors: which twelfths of the colour circle.
        backdrops: names of backdrop families.
        radii: of objects, in thousandths of the frame's short side.
        cells: size of a texture's cells, in thousandths of the object's radius.
        speeds: how far objects move, in thousandths of their range in a second.
        spins: how far objects turn, in 1024ths of a turn in a second.
        pans: how far the backdrop moves, in pixels a second.
        orbits: objects move on closed curves rather than straight lines.
    """

    hue_sectors: range
    backdrops: tuple[str, ...]
    radii: tuple[range, ...]
    cells: tuple[range, ...]
    speeds: range
    spins: range
    pans: range
    orbits: bool


STYLES = {
    "train": Style(
        hue_sectors=range(0, _HUE_SECTORS, 2),
        backdrops=("clouds", "plaid", "blocks"),
        radii=(range(210, 250), range(280, 330)),
        cells=(range(290, 330), range(370, 410)),
        speeds=range(150, 500),
        spins=range(40, 150),
        pans=range(2, 9),
        orbits=False,
    ),
    "test": Style(
        hue_sectors=range(1, _HUE_SECTORS, 2),
        backdrops=("cells", "ripples"),
        radii=(range(250, 280),),
        cells=(range(330, 370),),
        speeds=range(500, 800),
        spins=range(150, 250),
        pans=range(9, 15),
        orbits=True,
    ),
}


@dataclass(frozen=True)
class Look:
    """How one object looks.

    Attributes:
        hues: of its two colours, 0 to 1535.
        colours: the two of them, one dark and one bright, in either order.
        radius: in thousandths of the frame's short side.
        cell: of its texture, in thousandths of its radius.
    """

    tones: tuple[tuple[int, int], tuple[int, int]]
    radius: int
    cell: int


@dataclass(frozen=True)
class Appearance:
    """What the clips of a group share: the camera, the backdrop and the objects' looks."""

    width: int
    height: int
    rate: int
    backdrop: str
    backdrop_hues: tuple[int, int]
    backdrop_colours: tuple[Colour, Colour]
    looks: tuple[Look, ...]


@dataclass(frozen=True)
class ClipId:
    """Which clip: all that decides its pixels.

    Attributes:
        seed: of the data set, 0 to 2**32 - 1.
        class_number: place in `CLASS_NAMES`.
        split: `train` or `test`.
        index: 0, 1, ... among the clips of the class and split.
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
    def group_number(self) -> int:
        """Place of its group among those of the class and split."""
        return self.index // CLIPS_PER_GROUP

    @property
    def group(self) -> str:
        """Clips with the same appearance share it; no other clip of the data set has it."""
        return f"{self.label}-{self.split}-g{self.group_number:03d}"

    def scene_dice(self, purpose: str, number: int) -> Dice:
        return Dice(self.seed, len(CLASSES), SPLITS.index(self.split), _PURPOSES.index(purpose), number, 1)

    def dice(self, purpose: str, number: int) -> Dice:
        """Draws for one purpose of this clip's class and split."""
        return Dice(self.seed, self.class_number, SPLITS.index(self.split), _PURPOSES.index(purpose), number, 1)


def appearance_of(clip: ClipId) -> Appearance:
    """What a clip shares with its group."""
    style, dice = STYLES[clip.split], clip.scene_dice("look", clip.group_number)
    # Sizes and rates take turns from a random start, so that a small set has several of each.
    first = clip.scene_dice("camera", 0)
    width, height = SIZES[(first.below(len(SIZES)) + clip.group_number) % len(SIZES)]
    rate = RATES[(first.below(len(RATES)) + clip.group_number) % len(RATES)]
    hues = (_draw_hue(dice, style), _draw_hue(dice, style))
    return Appearance(
        width=width,
        height=height,
        rate=rate,
        backdrop=style.backdrops[dice.below(len(style.backdrops))],
        backdrop_hues=hues,
        backdrop_colours=(
            colour_of(hues[0], 60 + dice.below(100), 100 + dice.below(25)),
            colour_of(hues[1], 60 + dice.below(100), 135 + dice.below(30)),
        ),
        looks=tuple(_draw_look(dice, style) for _ in range(OBJECTS_PER_CLIP)),
    )


def _draw_hue(dice: Dice, style: Style) -> int:
    """A hue well within one of the split's sectors."""
    sector = HUES // _HUE_SECTORS
    return style.hue_sectors[dice.below(len(style.hue_sectors))] * sector + sector // 8 + dice.below(sector * 3 // 4)


def _draw_look(dice: Dice, style: Style) -> Look:
    dark = (60 + dice.below(130), 15 + dice.below(40))
    bright = (20 + dice.below(70), 225 + dice.below(31))
    tones = (dark, bright) if dice.below(2) else (bright, dark)
    return Look(tones, dice.among(*style.radii), dice.among(*style.cells))


def hue_at(style, position: int) -> int:
    usable = HUES // _HUE_SECTORS * 3 // 4
    sector, within = divmod(position % (usable * len(style.hue_sectors)), usable)
    return style.hue_sectors[sector] * (HUES // _HUE_SECTORS) + usable // 6 + within


def count_frames(clip: ClipId) -> int:
    """How many frames a clip has: 1 to 2.5 seconds at its rate."""
    return appearance_of(clip).rate * (1000 + clip.dice("motion", clip.index).below(1501)) // 1000


def draw_clip(clip: ClipId) -> Frames:
    """The frames of a clip: uint8 (T, H, W, 3), RGB. A pure function of what names the clip."""
    appearance, style = appearance_of(clip), STYLES[clip.split]
    width, height = appearance.width, appearance.height
    dice = clip.dice("motion", clip.index)
    n_frames = appearance.rate * (1000 + dice.below(1501)) // 1000
    # The backdrop belongs to the group: the same camera looks at the same place.
    backdrop = _draw_backdrop(appearance, clip.scene_dice("backdrop", clip.group_number))
    pan = _Pan.draw(dice, style)
    movers = [_Mover.draw(dice, style) for _ in appearance.looks]
    noise = (dice.array(16, (height + _MARGIN, width + _MARGIN)) - 8).astype(np.int16)[..., None]
    texture, shape = CLASSES[clip.class_number]
    frames = np.empty((n_frames, height, width, 3), np.uint8)
    for number, frame in enumerate(frames):
        milliseconds = number * 1000 // appearance.rate
        y, x = pan.at(milliseconds)
        canvas = backdrop[y : y + height, x : x + width].copy()
        for look, mover in zip(appearance.looks, movers, strict=True):
            hues = [hue_at(style, start + speed * milliseconds // 1000) for start, speed in mover.hues]
            colours = np.array([colour_of(hue, *tone) for hue, tone in zip(hues, look.tones)], np.int16)
            _paint(canvas, look, colours, mover, milliseconds, shape, texture)
        y, x = dice.below(_MARGIN), dice.below(_MARGIN)
        np.clip(canvas + noise[y : y + height, x : x + width], 0, 255, out=frame, casting="unsafe")
    return frames


def _draw_backdrop(appearance: Appearance, dice: Dice) -> npt.NDArray[np.int16]:
    """The backdrop with its margin, as RGB."""
    size = appearance.height + _MARGIN, appearance.width + _MARGIN
    share = BACKDROPS[appearance.backdrop](dice, *size)[..., None]
    first, second = (np.array(colour, np.int32) for colour in appearance.backdrop_colours)
    return ((first * (255 - share) + second * share) // 255).astype(np.int16)


@dataclass(frozen=True)
class _Pan:
    """How the backdrop moves: start and speed, down and right, in pixels and pixels a second."""

    start: tuple[int, int]
    speed: tuple[int, int]

    @classmethod
    def draw(cls, dice: Dice, style: Style) -> _Pan:
        return cls((dice.below(_MARGIN), dice.below(_MARGIN)), (dice.among(style.pans), dice.among(style.pans)))

    def at(self, milliseconds: int) -> tuple[int, int]:
        """Top and left of the frame on the backdrop."""
        (y, x), (down, right) = self.start, self.speed
        return (
            triangle_wave(y + down * milliseconds // 1000, _MARGIN),
            triangle_wave(x + right * milliseconds // 1000, _MARGIN),
        )


@dataclass(frozen=True)
class _Mover:
    """How one object moves: phases and speeds across, down and in turning."""

    orbits: bool
    start: tuple[int, int]
    speed: tuple[int, int]
    angle: int
    spin: int
    hues: tuple[tuple[int, int], tuple[int, int]]

    @classmethod
    def draw(cls, dice: Dice, style: Style) -> _Mover:
        return cls(
            orbits=style.orbits,
            start=(dice.below(2000), dice.below(2000)),
            speed=(dice.among(style.speeds), dice.among(style.speeds)),
            angle=dice.below(TURN),
            spin=dice.among(style.spins) * (1 if dice.below(2) else -1),
            hues=((dice.below(1000),dice.among(range(150,500))),(dice.below(1000),dice.among(range(150,500)))),
        )

    def at(self, milliseconds: int, ranges: tuple[int, int]) -> tuple[int, int]:
        """Where it is, across and down, between 0 and each of the ranges."""
        across, down = (
            start + speed * milliseconds // 1000 for start, speed in zip(self.start, self.speed, strict=True)
        )
        if self.orbits:
            phases = across * TURN // 2000, down * TURN // 2000
            x, y = ((1 << SINE_BITS) + sine(phase) for phase in phases)
            return x * ranges[0] >> SINE_BITS + 1, y * ranges[1] >> SINE_BITS + 1
        x, y = triangle_wave(across, 1000), triangle_wave(down, 1000)
        return x * ranges[0] // 1000, y * ranges[1] // 1000


def _paint(
    canvas: npt.NDArray[np.int16], look: Look, colours, mover: _Mover, milliseconds: int, shape: str, texture: str
) -> None:
    """Paint an object where it is at that time, with soft edges: four samples a pixel."""
    height, width = canvas.shape[:2]
    radius = look.radius * min(height, width) * _SUB // 1000
    x, y = mover.at(milliseconds, (width * _SUB - 2 * radius, height * _SUB - 2 * radius))
    x, y = x + radius, y + radius
    left, right = (x - radius) // _SUB, min((x + radius) // _SUB + 1, width)
    top, bottom = (y - radius) // _SUB, min((y + radius) // _SUB + 1, height)
    across = np.arange(left * 2, right * 2, dtype=np.int32) * (_SUB // 2) + _SUB // 4 - x
    down = np.arange(top * 2, bottom * 2, dtype=np.int32)[:, None] * (_SUB // 2) + _SUB // 4 - y
    angle = mover.angle + mover.spin * milliseconds // 1000
    cos, sin = (value * (UNIT << 2) // radius for value in (cosine(angle), sine(angle)))
    u = (cos * across + sin * down) >> SINE_BITS + 2
    v = (cos * down - sin * across) >> SINE_BITS + 2
    inside = SHAPES[shape](u, v)
    second = TEXTURES[texture](u, v, look.cell * UNIT // 1000) & inside
    n_inside, n_second = _count_samples(inside), _count_samples(second)
    patch = canvas[top:bottom, left:right]
    patch *= 4 - n_inside
    patch += colours[0] * (n_inside - n_second) + colours[1] * n_second
    patch >>= 2


def _count_samples(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.int16]:
    """How many of the four samples of each pixel are set: int16 (H, W, 1)."""
    samples = mask.astype(np.int16)
    return (samples[::2, ::2] + samples[1::2, ::2] + samples[::2, 1::2] + samples[1::2, 1::2])[..., None]
