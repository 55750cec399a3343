"""When the rows of a rolling-shutter sensor are exposed, in layers of equal time.

The layers begin with the exposure of the first row that is read and last one line time, or a few. With dual readout
both halves of the sensor are read at the same time, from the first and from the last row towards the centre
(Antipa et al., ICCP 2019; Cao et al., Nature Methods 2024, Methods).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from nstm.acquisition import DataError


@dataclass(frozen=True)
class Readout:
    """How a sensor is read.

    Attributes:
        rows: of the (binned) sensor.
        exposure_lines: line times that a row is exposed for, the lines of binned rows.
        dual: both halves at once.
        lines_per_layer: line times of a layer of the scene.
    """

    rows: int
    exposure_lines: int
    dual: bool = True
    lines_per_layer: int = 1

    def __post_init__(self) -> None:
        if self.dual and self.rows % 2:
            raise DataError(
                f"dual readout has two equal halves, but the sensor has {self.rows} rows after binning: crop it to an "
                "even number, or set readout.halves: single"
            )

    @property
    def lines(self) -> int:
        """Lines that are read one after the other."""
        return self.rows // 2 if self.dual else self.rows

    @property
    def layers(self) -> int:
        """Layers of one frame."""
        return math.ceil((self.lines + self.exposure_lines - 1) / self.lines_per_layer)

    def rows_of(self, line: np.ndarray) -> np.ndarray:
        """Rows ``(*line, halves)`` that are read as ``line``."""
        return np.stack([line, self.rows - 1 - line], axis=-1) if self.dual else line[..., None]

    def exposure(self) -> np.ndarray:
        """How much of each layer each line is exposed, ``(lines, layers)``; 1 is all of it, 0 nothing."""
        line, time = np.arange(self.lines)[:, None], np.arange(self.layers * self.lines_per_layer)
        open_ = (line <= time) & (time < line + self.exposure_lines)
        return open_.reshape(self.lines, self.layers, self.lines_per_layer).mean(axis=-1)

    def shutter(self) -> np.ndarray:
        """The same for every row, ``(layers, rows)``."""
        row = np.arange(self.rows)
        line = np.minimum(row, self.rows - 1 - row) if self.dual else row
        return self.exposure()[line].T


@dataclass(frozen=True)
class Blocks:
    """A frame in blocks of lines that are read one after the other, ``lines`` in each; the last may lack some.

    Attributes:
        line: ``(blocks, lines)``, -1 where the last block has none.
        row: ``(blocks, halves * lines)`` of the sensor, half by half, 0 where there is none.
        present: of the same shape, False where there is none.
        layer: ``(blocks, layers)`` that expose some line of the block.
        share: ``(blocks, lines, layers)`` of a line's exposure that falls into each of them; 1 in all, 0 for no line.
    """

    line: np.ndarray
    row: np.ndarray
    present: np.ndarray
    layer: np.ndarray
    share: np.ndarray

    @classmethod
    def of(cls, readout: Readout, lines: int) -> Blocks:
        """The blocks of a frame."""
        lines = min(lines, readout.lines)
        count = math.ceil(readout.lines / lines)
        line = np.arange(count * lines).reshape(count, lines)
        present = line < readout.lines
        exposure = readout.exposure()
        exposure /= exposure.sum(axis=1, keepdims=True)
        of_line = np.where(present[..., None], exposure[np.minimum(line, readout.lines - 1)], 0.0)
        seen = np.any(of_line, axis=1)
        first, last = seen.argmax(axis=1), seen.shape[1] - seen[:, ::-1].argmax(axis=1)
        width = int((last - first).max())
        layer = np.minimum(first, readout.layers - width)[:, None] + np.arange(width)
        row = np.moveaxis(readout.rows_of(np.where(present, line, 0)), -1, 1).reshape(count, -1)
        there = np.repeat(present[:, None], row.shape[1] // lines, axis=1).reshape(count, -1)
        return cls(
            line=np.where(present, line, -1),
            row=np.where(there, row, 0),
            present=there,
            layer=layer,
            share=np.take_along_axis(of_line, layer[:, None], axis=2),
        )

    def rows(self) -> list[np.ndarray]:
        """Rows of the sensor of each block."""
        return [row[present] for row, present in zip(self.row, self.present, strict=True)]

    def cut(self, frames: np.ndarray) -> np.ndarray:
        """Blocks ``(blocks, ..., v, u)`` of frames ``(..., y, x)``; 0 where there is no line."""
        blocks = np.moveaxis(frames[..., self.row, :], -3, 0)
        return np.where(self.present.reshape(len(self.row), *[1] * (frames.ndim - 2), -1, 1), blocks, 0)

    def joined(self, blocks: np.ndarray, rows: int) -> np.ndarray:
        """The frames ``(..., y, x)`` that were cut into ``blocks``."""
        frames = np.zeros((*blocks.shape[1:-2], rows, blocks.shape[-1]), blocks.dtype)
        for block, row, present in zip(blocks, self.row, self.present, strict=True):
            frames[..., row[present], :] = block[..., present, :]
        return frames
