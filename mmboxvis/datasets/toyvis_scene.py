"""Draws the videos of ToyVIS: textured shapes that move, turn, grow and hide one another.

Shape shorthand: V frames of (H, W) pixels, N objects, P outline points.
"""

from __future__ import annotations

import colorsys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

Difficulty = Literal['easy', 'hard']

CLASSES = ('disc', 'square', 'triangle', 'star')
_HUES = {'disc': (0, 18), 'square': (100, 150), 'triangle': (205, 245), 'star': (46, 58)}
_SUPERSAMPLE = 4
_TEXTURE_SIZE = 96
_TEXTURE_REACH = 1.35  # the texture covers [-reach, reach]² in units of the outline
_MIN_VISIBLE_PIXELS = 12
# of the two colours of a texture, over that of hard scenes
_EASY_CONTRAST = 0.4


@dataclass(frozen=True)
class SceneObject:
    """One object and where it is in each of V frames.

    Attributes:
        label: 0-based class, an index of :data:`CLASSES`.
        outline: (P, 2) polygon in units of the object's half size.
        texture: (S, S, 3) float32 BGR 0-255, turning with the object.
        centers: (V, 2) x, y in pixels.
        half_sizes: (V, 2) along the object's own axes, in pixels.
        angles: (V,) in radians.
    """

    label: int
    outline: np.ndarray
    texture: np.ndarray
    centers: np.ndarray
    half_sizes: np.ndarray
    angles: np.ndarray

    def points(self, frame: int) -> np.ndarray:
        """(P, 2) outline in the pixels of ``frame``; pixel i covers [i, i+1)."""
        cos, sin = np.cos(self.angles[frame]), np.sin(self.angles[frame])
        local = self.outline * self.half_sizes[frame]
        return local @ np.array([[cos, sin], [-sin, cos]]) + self.centers[frame]


@dataclass(frozen=True)
class SceneFrame:
    """One drawn frame.

    Attributes:
        image: (H, W, 3) uint8 BGR.
        masks: (N, H, W) bool, the visible part of each object; empty where fewer than a dozen
            pixels are seen.
        visible_share: (N,) seen pixels over all its pixels inside the frame, 0 where outside.
    """

    image: np.ndarray
    masks: np.ndarray
    visible_share: np.ndarray


class Scene:
    """A seeded random video.

    Args:
        rng: source of all randomness; two equal generators draw equal videos.
        size: (H, W) in pixels.
        first_label: class of the first object, so that a few videos cover all classes.
        difficulty: ``'easy'`` puts saturated objects with gentle textures on greyish backgrounds;
            ``'hard'`` gives strong textures, paints the background like the objects, repeats
            look-alikes and moves faster.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        *,
        size: tuple[int, int] = (128, 192),
        first_label: int = 0,
        difficulty: Difficulty = 'easy',
    ) -> None:
        if difficulty not in ('easy', 'hard'):
            raise ValueError(f"difficulty must be 'easy' or 'hard', got {difficulty!r}")
        self._rng = rng
        self.size = size
        self.difficulty = difficulty
        self.num_frames = int(rng.integers(8, 25))
        labels, hues = self._cast(first_label)
        like = hues[0] if difficulty == 'hard' else None
        self._background = _paint_background(rng, size, like)
        self._camera = _smooth_path(rng.uniform(0, 1, (4, 2)), self.num_frames)
        self._light_depth = rng.uniform(0.05, 0.18)
        self._light_phase = rng.uniform(0, 2 * np.pi, 2)
        self._blur = rng.uniform(0.35, 0.7)
        self._grain = rng.uniform(1.0, 2.5)
        # big objects first: they are drawn first, so small ones are not buried for good
        radii = np.sort(size[0] * rng.uniform(0.13, 0.27, len(labels)))[::-1]
        self.objects = [
            self._plan_object(label, hue, radius)
            for label, hue, radius in zip(labels, hues, radii, strict=True)
        ]

    def frames(self) -> Iterator[SceneFrame]:
        """Draws the video, frame by frame; call once, as it consumes random numbers."""
        for index in range(self.num_frames):
            yield self._draw(index)

    def _cast(self, first_label: int) -> tuple[list[int], list[float]]:
        """Class and hue in degrees of each object."""
        rng = self._rng
        number = int(rng.integers(1, 6))
        labels = [first_label, *map(int, rng.integers(0, len(CLASSES), number - 1))]
        hues = [float(rng.uniform(*_HUES[CLASSES[label]])) for label in labels]
        if self.difficulty == 'hard' and rng.random() < 0.5:
            labels = [first_label] * number
            hues = [hues[0] + float(rng.uniform(-3, 3)) for _ in labels]
        return labels, hues

    def _plan_object(self, label: int, hue: float, radius: float) -> SceneObject:
        rng, count = self._rng, self.num_frames
        height, width = self.size
        reach = np.array([width, height]) * (0.45 if self.difficulty == 'hard' else 0.28)
        stops = [rng.uniform([0.15 * width, 0.15 * height], [0.85 * width, 0.85 * height])]
        for _ in range(3):
            step = stops[-1] + rng.uniform(-reach, reach)
            stops.append(np.clip(step, [0.1 * width, 0.1 * height], [0.9 * width, 0.9 * height]))
        if rng.random() < 0.35:
            # leaves and comes back, or enters late, or goes for good
            stop = int(rng.integers(0, 4))
            outside = -1.5 * radius if rng.random() < 0.5 else width + 1.5 * radius
            stops[stop] = np.array([outside, stops[stop][1]])
        growth = _smooth_path(rng.uniform(0.75, 1.25, (3, 1)), count)
        aspect = rng.uniform(0.85, 1.18)
        turn = np.cumsum(np.full(count, rng.uniform(-0.15, 0.15)))
        return SceneObject(
            label=label,
            outline=_outline(CLASSES[label]),
            texture=_paint_texture(rng, hue, self.difficulty),
            centers=_smooth_path(np.stack(stops), count),
            half_sizes=radius * growth * np.array([aspect, 1 / aspect]),
            angles=rng.uniform(0, 2 * np.pi) + turn,
        )

    def _draw(self, index: int) -> SceneFrame:
        height, width = self.size
        canvas = self._shift_background(index)
        owner = np.full((height, width), -1)
        in_frame = np.zeros(len(self.objects))
        for number, item in enumerate(self.objects):
            roi = _region(item.points(index), self.size)
            if roi is None:
                continue
            x0, y0, x1, y1 = roi
            alpha = _coverage(item.points(index), roi)
            _lay_shadow(canvas, alpha, roi)
            patch = canvas[y0:y1, x0:x1]
            paint = _lit_texture(item, index, roi)
            canvas[y0:y1, x0:x1] = patch + alpha[..., None] * (paint - patch)
            owner[y0:y1, x0:x1][alpha >= 0.5] = number
            in_frame[number] = np.count_nonzero(alpha >= 0.5)
        masks = owner == np.arange(len(self.objects))[:, None, None]
        area = masks.sum((1, 2))
        masks &= (area >= _MIN_VISIBLE_PIXELS)[:, None, None]
        share = np.divide(area, in_frame, out=np.zeros_like(in_frame), where=in_frame > 0)
        return SceneFrame(self._expose(canvas, index), masks, share)

    def _shift_background(self, index: int) -> np.ndarray:
        height, width = self.size
        spare = np.array(self._background.shape[1::-1]) - (width, height) - 1
        corner = self._camera[index].clip(0, 1) * spare
        to_frame = np.array([[1.0, 0.0, -corner[0]], [0.0, 1.0, -corner[1]]])
        return cv2.warpAffine(self._background, to_frame, (width, height))

    def _expose(self, canvas: np.ndarray, index: int) -> np.ndarray:
        """Changes the light over time and space, blurs slightly and adds grain."""
        height, width = self.size
        time = 2 * np.pi * index / 24
        overall = 1 + self._light_depth * np.sin(time + self._light_phase[0])
        direction = time / 2 + self._light_phase[1]
        x = np.linspace(-1, 1, width, dtype=np.float32) * np.cos(direction)
        y = np.linspace(-1, 1, height, dtype=np.float32) * np.sin(direction)
        light = overall + 0.6 * self._light_depth * (x[None, :] + y[:, None])
        lit = cv2.GaussianBlur(canvas * light[..., None].astype(np.float32), (0, 0), self._blur)
        grain = self._rng.normal(0, self._grain, (height, width, 1)).astype(np.float32)
        return np.clip(lit + grain + 0.5, 0, 255).astype(np.uint8)


def _outline(name: str) -> np.ndarray:
    if name == 'disc':
        angles = np.linspace(0, 2 * np.pi, 64, endpoint=False)
        return np.stack([np.cos(angles), np.sin(angles)], 1)
    if name == 'square':
        return np.array([[-0.88, -0.88], [0.88, -0.88], [0.88, 0.88], [-0.88, 0.88]])
    if name == 'triangle':
        angles = np.pi / 2 + 2 * np.pi * np.arange(3) / 3
        return 1.25 * np.stack([np.cos(angles), np.sin(angles)], 1)
    angles = np.pi / 2 + np.pi * np.arange(10) / 5
    radius = np.where(np.arange(10) % 2, 0.58, 1.28)[:, None]
    return radius * np.stack([np.cos(angles), np.sin(angles)], 1)


def _smooth_path(stops: np.ndarray, count: int) -> np.ndarray:
    """(K, D) stops to (count, D) points on a Catmull-Rom curve through them."""
    padded = np.concatenate([2 * stops[:1] - stops[1:2], stops, 2 * stops[-1:] - stops[-2:-1]])
    time = np.linspace(0, len(stops) - 1, count)
    segment = np.minimum(time.astype(int), len(stops) - 2)
    u = (time - segment)[:, None]
    p0, p1, p2, p3 = (padded[segment + k] for k in range(4))
    cubic = (3 * p1 - p0 - 3 * p2 + p3) * u**3
    return 0.5 * (2 * p1 + (p2 - p0) * u + (2 * p0 - 5 * p1 + 4 * p2 - p3) * u**2 + cubic)


def _bgr(hue: float, saturation: float, value: float) -> np.ndarray:
    red, green, blue = colorsys.hsv_to_rgb(hue / 360 % 1, saturation, value)
    return np.array([blue, green, red], np.float32) * 255


def _noise(rng: np.random.Generator, size: tuple[int, int], cell: int) -> np.ndarray:
    """(H, W) smooth noise in 0-1 with features of about ``cell`` pixels and finer ones."""
    total = np.zeros(size, np.float32)
    for octave in range(3):
        step = max(cell >> octave, 2)
        grid = rng.random((size[0] // step + 3, size[1] // step + 3), np.float32)
        layer = cv2.resize(grid, None, fx=step, fy=step, interpolation=cv2.INTER_CUBIC)
        total += layer[: size[0], : size[1]] / 2**octave
    low, high = float(total.min()), float(total.max())
    return (total - low) / (high - low)


def _pattern(
    rng: np.random.Generator, size: tuple[int, int], period: float, kind: str
) -> np.ndarray:
    """(H, W) in 0-1: where the second colour of a texture lies."""
    height, width = size
    y, x = np.mgrid[:height, :width].astype(np.float32)
    angle = rng.uniform(0, np.pi)
    u = (x * np.cos(angle) + y * np.sin(angle)) * 2 * np.pi / period
    v = (y * np.cos(angle) - x * np.sin(angle)) * 2 * np.pi / period
    if kind == 'stripes':
        wave = np.sin(u + 2.5 * _noise(rng, size, int(2 * period)))
    elif kind == 'checks':
        wave = np.sin(u) * np.sin(v)
    elif kind == 'dots':
        wave = np.cos(u) + np.cos(v) - 1
    else:
        wave = 4 * _noise(rng, size, int(period)) - 2
    return 1 / (1 + np.exp(-5 * wave))


def _paint_texture(rng: np.random.Generator, hue: float, difficulty: Difficulty) -> np.ndarray:
    size = (_TEXTURE_SIZE, _TEXTURE_SIZE)
    kind = str(rng.choice(['stripes', 'checks', 'dots', 'clouds']))
    share = _pattern(rng, size, rng.uniform(14, 26), kind)[..., None]
    first = np.array([rng.uniform(0.78, 0.98), rng.uniform(0.78, 0.98)])
    second = np.array([rng.uniform(0.55, 0.9), rng.uniform(0.5, 0.68)])
    shift = rng.uniform(-8, 8)
    if difficulty == 'easy':
        second = first + _EASY_CONTRAST * (second - first)
        shift *= _EASY_CONTRAST
    first, second = _bgr(hue, *first), _bgr(hue + shift, *second)
    fine = 1 + 0.12 * (_noise(rng, size, 8)[..., None] - 0.5)
    return (first + share * (second - first)) * fine


def _paint_background(
    rng: np.random.Generator, size: tuple[int, int], like: float | None
) -> np.ndarray:
    """Larger than the frame, so that the camera can pan over it; ``like`` is a hue to hide."""
    canvas = (int(size[0] * 1.3), int(size[1] * 1.3))
    kind = str(rng.choice(['stripes', 'checks', 'dots', 'clouds', 'clouds']))
    if like is not None:
        hues = [like + rng.uniform(-12, 12), like + rng.uniform(-25, 25), rng.uniform(0, 360)]
        saturation, period = (0.4, 0.8), rng.uniform(12, 30)
    else:
        hues = list(rng.uniform(0, 360) + rng.uniform(-40, 40, 3))
        saturation, period = (0.05, 0.28), rng.uniform(24, 60)
    colours = [_bgr(hue, rng.uniform(*saturation), rng.uniform(0.25, 0.7)) for hue in hues]
    coarse = _noise(rng, canvas, 64)[..., None]
    base = colours[0] + coarse * (colours[1] - colours[0])
    share = 0.45 * _pattern(rng, canvas, period, kind)[..., None]
    fine = 1 + 0.2 * (_noise(rng, canvas, 6)[..., None] - 0.5)
    return ((base + share * (colours[2] - base)) * fine).astype(np.float32)


def _region(points: np.ndarray, size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """Pixels around a polygon, inside the frame: x0, y0, x1, y1, or ``None`` if there are none."""
    low = np.maximum(np.floor(points.min(0)).astype(int) - 1, 0)
    high = np.minimum(np.ceil(points.max(0)).astype(int) + 1, size[::-1])
    if (low >= high).any():
        return None
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def _coverage(points: np.ndarray, roi: tuple[int, int, int, int]) -> np.ndarray:
    """Share of each pixel of ``roi`` that the polygon covers: antialiased edges."""
    x0, y0, x1, y1 = roi
    fine = np.zeros(((y1 - y0) * _SUPERSAMPLE, (x1 - x0) * _SUPERSAMPLE), np.float32)
    # pixel centres are whole numbers for fillPoly, hence the half pixel
    corners = (points - (x0, y0)) * _SUPERSAMPLE - 0.5
    cv2.fillPoly(fine, [np.round(corners * 16).astype(np.int32)], 1.0, shift=4)
    return cv2.resize(fine, (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA)


def _lit_texture(item: SceneObject, frame: int, roi: tuple[int, int, int, int]) -> np.ndarray:
    """The object's texture over ``roi``, brighter towards the upper left."""
    x0, y0, x1, y1 = roi
    cos, sin = np.cos(item.angles[frame]), np.sin(item.angles[frame])
    half = item.half_sizes[frame] * 2 * _TEXTURE_REACH / _TEXTURE_SIZE
    turn = np.array([[cos, -sin], [sin, cos]]) * half
    center = item.centers[frame] - (x0, y0) - 0.5
    offset = center - turn @ np.full(2, (_TEXTURE_SIZE - 1) / 2)
    paint = cv2.warpAffine(
        item.texture,
        np.concatenate([turn, offset[:, None]], 1),
        (x1 - x0, y1 - y0),
        borderMode=cv2.BORDER_REFLECT,
    )
    y, x = np.mgrid[: y1 - y0, : x1 - x0].astype(np.float32)
    lean = ((x - center[0]) + (y - center[1])) / float(item.half_sizes[frame].sum())
    return paint * (1 - 0.2 * np.clip(lean, -1, 1))[..., None]


def _lay_shadow(canvas: np.ndarray, alpha: np.ndarray, roi: tuple[int, int, int, int]) -> None:
    """Darkens ``canvas`` (written in place, it is the caller's scratch) below and right of it."""
    x0, y0, x1, y1 = roi
    shift = max(2, (x1 - x0) // 14)
    x_end, y_end = min(x1 + 2 * shift, canvas.shape[1]), min(y1 + 2 * shift, canvas.shape[0])
    shade = np.zeros((y_end - y0, x_end - x0), np.float32)
    rows, columns = min(y1 + shift, y_end) - y0 - shift, min(x1 + shift, x_end) - x0 - shift
    if rows <= 0 or columns <= 0:
        return
    shade[shift : shift + rows, shift : shift + columns] = alpha[:rows, :columns]
    shade = cv2.GaussianBlur(shade, (0, 0), shift)
    canvas[y0:y_end, x0:x_end] *= 1 - 0.3 * shade[..., None]
