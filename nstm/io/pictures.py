"""PNG and BMP: one plane, grey or red, green and blue, never with loss."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from nstm.acquisition import DataError
from nstm.io.protocol import CHANGED, Header, ImageFile, checked, clean_text, damage, shown

_PNG, _BMP = b"\x89PNG\r\n\x1a\n", b"BM"
_PNG_END = b"IEND\xaeB`\x82"
#: Where a PNG states the bits of a sample, and a BMP its number of bytes.
_PNG_BITS, _BMP_BYTES = 24, slice(2, 6)
_MODES = {"L": "uint8", "I;16": "uint16", "RGB": "uint8"}
_COLOURS = ("red", "green", "blue")


class PictureReader:
    """The reader of PNG and BMP; a set of them is a glob or a folder that holds nothing else."""

    name = "PNG, BMP"
    suffixes: tuple[str, ...] = (".png", ".bmp")

    def recognises(self, head: bytes) -> bool:
        """The signature of either."""
        return head.startswith((_PNG, _BMP))

    def open(self, path: Path, position: str | None) -> ImageFile:
        """See :class:`nstm.io.protocol.Reader`; the file holds one image."""
        if position not in (None, "0"):
            raise DataError(f"{shown(path)}: no position {clean_text(position)!r}: the file holds one image")
        content = path.read_bytes()
        png = content.startswith(_PNG)
        declared = int.from_bytes(content[_BMP_BYTES], "little")
        if _PNG_END not in content[-64:] if png else declared > len(content):
            raise DataError(f"{shown(path)}: the file is truncated: copy it anew")
        with _picture(path) as picture:
            mode, width, height = picture.mode, picture.width, picture.height
        if mode not in _MODES or (mode == "RGB" and png and content[_PNG_BITS] == 16):
            raise DataError(
                f"{shown(path)}: colours of the kind {mode} are not read without loss: save the picture in grey (8 or "
                "16 bit), in red, green and blue of 8 bit, or as TIFF"
            )
        colours = _COLOURS if mode == "RGB" else ()
        header = Header(
            path=path,
            format="PNG" if png else "BMP",
            axes={"C": len(colours)} if colours else {},
            dtype=np.dtype(_MODES[mode]),
            plane_shape=(height, width),
            file_bytes=len(content),
            channels=colours,
        )
        return _PictureFile(checked(header))


@dataclass
class _PictureFile(ImageFile):
    header: Header

    def read_plane(self, index: int) -> np.ndarray:
        """See :class:`ImageFile`."""
        path = self.header.path
        with damage(path, "the picture"), _picture(path) as picture:
            try:
                values = np.asarray(picture)
            except OSError as error:  # so does the library call damaged pixels
                raise DataError(f"{shown(path)}: the picture cannot be decoded ({error}); {CHANGED}") from error
        plane = values[..., index] if self.header.channels else values
        if plane.shape != self.header.plane_shape or plane.dtype != self.header.dtype:
            raise DataError(f"{shown(path)}: {CHANGED}")
        return np.ascontiguousarray(plane)


@contextmanager
def _picture(path: Path) -> Iterator[Image.Image]:
    """The opened picture; its header is read, its pixels are not yet."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # sizes are checked by ourselves
        try:
            picture = Image.open(path, formats=("PNG", "BMP"))
        except (UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, ValueError) as error:
            raise DataError(
                f"{shown(path)}: the header cannot be read ({clean_text(error)}): the file is damaged, save it anew"
            ) from error
    with picture:
        yield picture
