"""From downloaded archives to a folder that trains: verified, unpacked, listed, packed into records.

Everything is written below one folder, each file under its final name only when it is whole, and nothing that
exists is replaced by something else. So whatever was interrupted is continued by calling it again.
"""
import csv
import hashlib
import io
import json
import os
import shutil

import cv2

from gluon_fgvc.data.formats import archives, recordio
from gluon_fgvc.data.pool import map_in_order
from gluon_fgvc.data.readers import Crops
from gluon_fgvc.data.transforms import resize
from gluon_fgvc.errors import DataError
from gluon_fgvc.files import hash_of_file, remove, write_atomically

CHUNK = 16  # images a process is asked for at once
ALGORITHMS = {32: 'md5', 40: 'sha1', 64: 'sha256'}  # by the number of digits


# --- archives --------------------------------------------------------------------------------

def verify(archive, published):
    """Compare an archive with its published sum.

    :param published: file name → MD5, SHA-1 or SHA-256 in hexadecimal, or None; names that are not in it have none.
    :returns: one line on what was found; the SHA-256 where there is nothing to compare with.
    :raises DataError: if the sums differ.
    """
    name = os.path.basename(archive)
    expected = published.get(name)
    try:
        algorithm = ALGORITHMS[len(expected)] if expected else 'sha256'
        found = hash_of_file(archive, algorithm)
    except OSError as error:
        raise DataError(f"cannot read archive '{archive}': {error.strerror}") from None
    if not expected:
        return f'{name}: sha256 {found} (no sum is published to compare with)'
    if found != expected:
        raise DataError(f"archive '{archive}' is damaged or another one: its {algorithm} is {found}, published is "
                        f'{expected}; download it again')
    return f'{name}: {algorithm} {found}, as published'


def unpack(archive, folder):
    """Unpack ``archive`` into a folder of its name in ``folder``; copy what is no archive.

    :returns: the path made.
    :raises DataError: as :func:`~gluon_fgvc.data.formats.archives.extract`, or if another file is in the way.
    """
    target = target_of(archive, folder)
    if archives.is_archive(archive):
        archives.extract(archive, target)
        return target
    temporary = f'{target}.tmp'
    try:
        shutil.copyfile(archive, temporary)
        os.rename(temporary, target)
    finally:
        remove(temporary)
    return target


def target_of(archive, folder):
    """Return the path that :func:`unpack` makes."""
    name = archives.stem(archive) if archives.is_archive(archive) else os.path.basename(archive)
    return os.path.join(folder, name)


# --- lists -----------------------------------------------------------------------------------

def write_lists(source, folder):
    """Write ``classes.txt`` and, for each split of files, ``<split>.csv`` for the data set ``list_file``.

    Columns are path (relative to ``folder`` where it is in it), label, name and, where there are boxes, x, y, width
    and height; the images of :class:`~gluon_fgvc.data.readers.Crops` are listed as files with boxes.

    :returns: the paths written; none for a split whose images are not files.
    :raises DataError: if a file exists with another content, or a path cannot be put on a line.
    """
    written = [_write_once(os.path.join(folder, 'classes.txt'), ''.join(f'{name}\n' for name in source.classes))]
    for images in source.splits():
        crops = images.reader if isinstance(images.reader, Crops) else None
        if images.reader is not None and crops is None:
            continue
        rows = range(len(images)) if images.rows is None else images.rows
        files, boxes = (images.paths, images.boxes) if crops is None else (
            [crops.files[row] for row in rows], [crops.boxes[row] for row in rows])
        table = io.StringIO()
        writer = csv.writer(table, lineterminator='\n')
        writer.writerow(['path', 'label', 'name', *(('x', 'y', 'width', 'height') if boxes is not None else ())])
        for i, (file, label) in enumerate(zip(files, images.labels)):
            writer.writerow([_relative(file, folder), label, source.classes[label],
                             *(() if boxes is None else (f'{edge:g}' for edge in boxes[i]))])
        written.append(_write_once(os.path.join(folder, f'{images.name}.csv'), table.getvalue()))
    return written


def _relative(path, folder):
    path = os.path.abspath(path)
    inside = os.path.relpath(path, folder)
    path = path if inside.startswith(os.pardir) else inside
    if path != path.strip() or not path.isprintable():
        raise DataError(f'{path!r} cannot be put on a line of a list in UTF-8; rename the file')
    return path


def _write_once(path, text):
    data = text.encode('utf-8', 'surrogateescape')
    try:
        with open(path, 'rb') as stream:
            same = stream.read() == data
    except FileNotFoundError:
        return write_atomically(path, data)
    if not same:
        raise DataError(f"'{path}' exists with another content; remove it or choose another folder")
    return path


# --- records ---------------------------------------------------------------------------------

def write_records(images, path, *, size, quality, workers, progress=None):
    """Write the images of a set as JPEG to the record file ``path``, in their order, with an index beside it.

    ``path`` with the ending ``.json`` instead of ``.rec`` says what is in it. If an earlier call was interrupted, its
    whole records are kept, and the bytes are the same as if it had not been.

    :param size: the shorter side in pixels; smaller images are not enlarged. None keeps all sizes.
    :param quality: of the JPEGs, 1 to 100.
    :param workers: processes; 0 works in this one.
    :param progress: is told by its ``update(n)`` of n more images.
    :raises DataError: if an image cannot be read, a worker died, or ``path`` was begun with other settings.
    """
    stem = os.path.splitext(path)[0]
    digest = hashlib.sha256()
    for name, label in zip(images.paths, images.labels):
        digest.update(f'{os.path.relpath(name, os.path.dirname(path))}\t{label}\n'.encode('utf-8', 'surrogateescape'))
    settings = {'images': len(images), 'list_sha256': digest.hexdigest(), 'shorter_side': size, 'jpeg_quality': quality,
                'opencv': cv2.__version__}
    _write_once(f'{stem}.json', json.dumps(settings, indent=1) + '\n')
    if os.path.exists(path):
        if progress is not None:
            progress.update(len(images))
        return
    with open(f'{path}.partial', 'ab') as stream:
        done, _, end = recordio.scan(f'{path}.partial')
        stream.truncate(end)
        if progress is not None:
            progress.update(len(done))
        for number, jpeg in enumerate(_encoded(images, len(done), size, quality, workers), len(done)):
            recordio.write(stream, images.labels[number], number, jpeg)
            if progress is not None:
                progress.update(1)
        stream.flush()
        os.fsync(stream.fileno())
    offsets, _, _ = recordio.scan(f'{path}.partial')
    _write_once(f'{stem}.idx', ''.join(f'{i}\t{offset}\n' for i, offset in enumerate(offsets)))
    os.rename(f'{path}.partial', path)


def _encoded(images, first, size, quality, workers):
    """Yield the JPEGs of ``images`` from number ``first`` on."""
    def encode(chunk):
        return [_jpeg(images.read(index), size, quality) for index in chunk]

    chunks = (range(start, min(start + CHUNK, len(images))) for start in range(first, len(images), CHUNK))
    for jpegs in map_in_order(encode, chunks, workers, 'call again with fewer workers, and it goes on from there'):
        yield from jpegs


def _jpeg(image, size, quality):
    if size and min(image.shape[:2]) > size:
        image = resize(image, size)
    _, jpeg = cv2.imencode('.jpg', cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return jpeg.tobytes()
