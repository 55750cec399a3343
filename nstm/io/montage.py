"""Frames stored as tiles of one large image (Nikon's N-SIM: phases side by side, orientations one below another)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from nstm.acquisition import DataError
from nstm.io.protocol import Header, ImageFile, shown


class Montage(ImageFile):
    """A file whose every plane holds ``rows x columns`` frames; the frames are its planes.

    A large image has one time for all its frames, which is kept as that of its time point; the times of the frames are
    left to exposure and delays. Where planes are turned afterwards (``flips``), tiles are counted from the other side.
    """

    def __init__(
        self, file: ImageFile, rows: tuple[str, int], columns: tuple[str, int], flips: Sequence[str] = ()
    ) -> None:
        self._file, self._tiles, self._flips = file, (rows[1], columns[1]), tuple(flips)
        (height, width), (down, across) = file.header.plane_shape, (rows[1], columns[1])
        if height % down or width % across:
            raise DataError(
                f"{shown(file.header.path)}: images of {height} x {width} pixels are no montage of {down} x {across} "
                "frames: correct frames.montage or the numbers of the illumination"
            )
        self.header = replace(
            file.header,
            axes={**file.header.axes, rows[0]: down, columns[0]: across},
            plane_shape=(height // down, width // across),
            plane_start_s=None,
            exposure_s=None,
            time_point_s=_time_points(file.header),
        )

    def read_plane(self, index: int) -> np.ndarray:
        """One frame; see :class:`nstm.io.protocol.ImageFile`."""
        image, frame = divmod(index, self._tiles[0] * self._tiles[1])
        row, column = divmod(frame, self._tiles[1])
        row = self._tiles[0] - 1 - row if "y" in self._flips else row
        column = self._tiles[1] - 1 - column if "x" in self._flips else column
        height, width = self.header.plane_shape
        tiles = self._file.read_plane(image)
        return tiles[row * height : (row + 1) * height, column * width : (column + 1) * width]


def _time_points(header: Header) -> np.ndarray | None:
    """Start of every time point, from the times of its images."""
    if header.plane_start_s is None or "T" not in header.axes:
        return header.time_point_s
    starts = header.plane_start_s.reshape(tuple(header.axes.values()))
    return np.moveaxis(starts, list(header.axes).index("T"), 0).reshape(header.axes["T"], -1).min(axis=1)


def frames_of_montage(
    file: ImageFile,
    montage: str,
    frame_axes: Mapping[str, int],
    axis_labels: Mapping[str, str],
    flips: Sequence[str] = (),
) -> Montage:
    """The frames of a file of large images.

    Args:
        file: as read.
        montage: the frame axes down the rows and along the columns, e.g. ``"angle phase"``.
        frame_axes: names and lengths.
        axis_labels: what files call the frame axes.
        flips: axes along which the large images, as frames.montage describes them, are turned against the file.

    Raises:
        DataError: not two frame axes, or images that cannot be divided.
    """
    names = montage.split()
    if len(names) != 2 or len(set(names)) != 2 or not set(names) <= set(frame_axes):
        raise DataError(
            f"frames.montage is {montage!r}: give the frame axes down the rows and along the columns, two of "
            f"{', '.join(frame_axes)}, e.g. {' '.join(list(frame_axes)[:2])!r}"
        )
    label = {axis: name for name, axis in axis_labels.items()}
    down, across = ((label.get(name, name), frame_axes[name]) for name in names)
    return Montage(file, down, across, flips)
