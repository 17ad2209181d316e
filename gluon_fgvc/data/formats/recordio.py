"""RecordIO files of images, as ``im2rec`` writes them.

A record is a magic number, a length with a flag in its upper three bits, and the content padded to four
bytes. Where the content has the magic number at a multiple of four bytes it is split there, so that a reader
can find its way again: flag 1 begins such a record, 2 goes on, 3 ends it. The content of an image is a header
(flag, label, two ids) and an encoded image. ``mxnet.recordio`` writes and reads the same, but its reader has one
position in the file, which threads and forked processes would fight for, and its writer cannot continue a file.
"""
import os
import struct

import numpy as np

from gluon_fgvc.data.images import BrokenImage, Picture
from gluon_fgvc.errors import DataError

_MAGIC = struct.pack('<I', 0xced7230a)
_WHOLE, _BEGINS, _GOES_ON, _ENDS = range(4)
_IMAGE = struct.Struct('<IfQQ')


class Records:
    """The images of a record file; a row is a record, and gives a :class:`~gluon_fgvc.data.images.Picture`.

    :param offsets: (N,) where in the file each record begins.
    """

    def __init__(self, path, offsets):
        self._path, self._offsets = path, offsets

    def __call__(self, row):
        try:
            with open(self._path, 'rb') as stream:
                stream.seek(self._offsets[row])
                content = _read(stream)
        except OSError as error:
            raise BrokenImage(f"cannot read image '{self._path}#{row}': {error.strerror}") from None
        except _Damaged as error:
            raise BrokenImage(f"cannot read image '{self._path}#{row}': {error}") from None
        return Picture(f'{self._path}#{row}', content[_IMAGE.size:])


class _Damaged(Exception):
    """Why the bytes are not a record."""


def write(stream, label, number, image):
    """Add one record to a binary stream: an encoded ``image`` with its class index and its id ``number``."""
    content = _IMAGE.pack(0, label, number, 0) + image
    cuts = [at for at in _occurrences(content) if at % 4 == 0]
    bounds = list(zip([0, *(cut + 4 for cut in cuts)], [*cuts, len(content)]))
    for part, (start, end) in enumerate(bounds):
        flag = _WHOLE if not cuts else _BEGINS if not part else _ENDS if part == len(bounds) - 1 else _GOES_ON
        padding = bytes(-(end - start) % 4)
        stream.write(_MAGIC + struct.pack('<I', flag << 29 | end - start) + content[start:end] + padding)


def scan(path):
    """Return offsets (N,) int64, labels (N,) float32 and where the last whole record ends.

    Contents are skipped. Whatever follows the last whole record is left to the caller to judge.

    :raises DataError: if the file cannot be read.
    """
    offsets, labels, end = [], [], 0
    try:
        size = os.path.getsize(path)
        with open(path, 'rb') as stream:
            while end < size:
                head = _read(stream, _IMAGE.size, size)
                offsets.append(end)
                labels.append(_IMAGE.unpack(head)[1] if _IMAGE.unpack(head)[0] == 0 else np.nan)
                end = stream.tell()
    except _Damaged:
        pass
    except OSError as error:
        raise DataError(f"cannot read '{path}': {error.strerror}") from None
    return np.array(offsets, np.int64), np.array(labels, np.float32), end


def _read(stream, limit=None, size=None):
    """Return the content of the record at the position of ``stream``, which ends up behind it.

    :param limit: return no more than so many bytes and skip the rest.
    :param size: of the file, so that skipping beyond its end is noticed.
    """
    parts, missing = [], limit
    while True:
        head = stream.read(8)
        if len(head) < 8 or head[:4] != _MAGIC:
            raise _Damaged('it is truncated or not a record')
        word, = struct.unpack('<I', head[4:])
        flag, length = word >> 29, word & (1 << 29) - 1
        if flag not in ((_GOES_ON, _ENDS) if parts else (_WHOLE, _BEGINS)):
            raise _Damaged('its parts are out of order')
        padded, wanted = length + -length % 4, length if missing is None else min(length, missing)
        part = stream.read(wanted)
        if len(part) < wanted:
            raise _Damaged('it is truncated')
        if stream.seek(padded - wanted, os.SEEK_CUR) > (size or np.inf):
            raise _Damaged('it is truncated')
        parts.append(part)
        if missing is not None:
            missing = max(0, missing - wanted - len(_MAGIC))
        if flag in (_WHOLE, _ENDS):
            content = _MAGIC.join(parts)
            if len(content) < _IMAGE.size:
                raise _Damaged('it is shorter than the header of an image')
            return content[:limit]


def _occurrences(content):
    at = content.find(_MAGIC)
    while at >= 0:
        yield at
        at = content.find(_MAGIC, at + 4)
