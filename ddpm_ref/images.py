"""Images to look at: a batch in [-1, 1] becomes one PNG."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddpm_ref.errors import RangeError, ShapeError
from ddpm_ref.extras import require
from ddpm_ref.files import write_atomically
from ddpm_ref.typing import ArrayLike

_BETWEEN = 255  # the lines between the tiles are white


def to_uint8(images: ArrayLike) -> NDArray[np.uint8]:
    """Grey levels 0..255 of values in [-1, 1]; values outside are cut off.

    Args:
        images: any shape.

    Returns:
        the same shape; ``round(127.5 (x + 1))``.

    Raises:
        RangeError: a value is NaN or infinite.

    >>> to_uint8([-1.0, 0.004, 1.0, 1.5]).tolist()
    [0, 128, 255, 255]
    """
    values = np.asarray(images, dtype=np.float64)
    if not np.isfinite(values).all():
        raise RangeError(f"{np.count_nonzero(~np.isfinite(values))} of {values.size} pixels are NaN or infinite")
    return np.rint((np.clip(values, -1.0, 1.0) + 1.0) * 127.5).astype(np.uint8)


def grid(images: ArrayLike, columns: int | None = None, scale: int = 1, gap: int = 1) -> NDArray[np.uint8]:
    """Many small images as one large one, row by row.

    Args:
        images: ``(n, channels, height, width)`` with 1 or 3 channels, in [-1, 1]; n >= 1.
        columns: images in a row; as many as make the picture nearly square if None.
        scale: each pixel becomes a square of this side.
        gap: white pixels around each image, after scaling.

    Returns:
        ``(rows, columns)`` pixels for grey images, ``(rows, columns, 3)`` for colour.

    Raises:
        ShapeError: another number of axes or channels, or no image.
        RangeError: a value that is NaN or infinite; ``columns`` or ``scale`` below 1; a negative ``gap``.

    >>> grid(np.zeros((5, 1, 8, 8)), columns=3, scale=2).shape
    (35, 52)
    """
    levels = to_uint8(images)
    if levels.ndim != 4 or levels.shape[1] not in (1, 3) or 0 in levels.shape:
        raise ShapeError(
            f"images have shape {levels.shape}; (n, channels, height, width) with 1 or 3 channels is needed"
        )
    count, channels, height, width = levels.shape
    columns = int(np.ceil(np.sqrt(count))) if columns is None else columns
    if columns < 1 or scale < 1 or gap < 0:
        raise RangeError(f"columns = {columns}, scale = {scale}, gap = {gap}; needed are >= 1, >= 1 and >= 0")
    tiles = levels.transpose(0, 2, 3, 1).repeat(scale, axis=1).repeat(scale, axis=2)
    height, width = height * scale, width * scale
    rows = -(-count // columns)
    page = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, channels), _BETWEEN, dtype=np.uint8)
    for index, tile in enumerate(tiles):
        row, column = divmod(index, columns)
        top, left = gap + row * (height + gap), gap + column * (width + gap)
        page[top : top + height, left : left + width] = tile
    return page[:, :, 0] if channels == 1 else page


def write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write pixels, ``(height, width)`` or ``(height, width, 3)``, as a PNG file, whole or not at all.

    Raises:
        OutputError: the file cannot be written; an existing one is left as it was.
        MissingExtraError: Pillow is not installed.
    """
    buffer = io.BytesIO()
    require("PIL.Image", "train").fromarray(pixels).save(buffer, format="PNG")
    write_atomically(path, buffer.getvalue())


def write_grid(path: Path, images: ArrayLike, columns: int | None = None, scale: int = 8, gap: int = 4) -> None:
    """Write many small images, ``(n, channels, height, width)`` in [-1, 1], as one PNG file; see `grid`."""
    write_png(path, grid(images, columns, scale, gap))
