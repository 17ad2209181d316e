"""Makes the n-th open, write, fsync, rename or allocation of a training fail, all others being as they are."""
import builtins
import errno
import io
import os
from contextlib import contextmanager

import mxnet as mx

KINDS = ('open', 'write', 'fsync', 'rename', 'allocate')


class Failing:
    """Counts the calls of one ``kind`` that concern files below ``folder``, and lets number ``at`` (from 1) fail.

    Allocations are those of arrays on their way to a file: copies to numpy and back. MXNet writes parameters in native
    code: its whole write is one call here, after which half of the file is there.
    """

    def __init__(self, kind, folder, at):
        self.kind, self.folder, self.at, self.count = kind, os.path.abspath(folder), at, 0

    @property
    def has_failed(self):
        return self.count >= self.at

    def call(self, kind, function, path=None):
        """Return ``function()``, unless its turn has come."""
        if kind == self.kind and (path is None or self._is_ours(path)):
            self.count += 1
            if self.count == self.at:
                if kind == 'allocate':
                    raise MemoryError
                raise OSError(errno.EIO if kind == 'open' else errno.ENOSPC, 'made to fail', str(path))
        return function()

    def _is_ours(self, path):
        return isinstance(path, (str, os.PathLike)) and os.path.abspath(path).startswith(self.folder)

    @contextmanager
    def installed(self, patch):
        """Within the context the calls go through :meth:`call`; ``patch`` is pytest's MonkeyPatch."""
        plain_open, fsync, save = builtins.open, os.fsync, mx.nd.save

        def open_(file, mode='r', *args, **kwargs):
            stream = self.call('open', lambda: plain_open(file, mode, *args, **kwargs), file)
            return stream if mode.startswith('r') or not self._is_ours(file) else _Stream(stream, self, file)

        def save_(path, arrays):
            try:
                self.call('write', lambda: save(path, arrays), path)
            except OSError as error:
                save(path, arrays)
                os.truncate(path, os.path.getsize(path) // 2)
                raise mx.MXNetError(str(error)) from None

        with patch.context() as active:
            active.setattr(builtins, 'open', open_)
            active.setattr(io, 'open', open_)
            active.setattr(os, 'fsync', lambda descriptor: self.call('fsync', lambda: fsync(descriptor)))
            for name in ('replace', 'rename'):
                plain = getattr(os, name)
                active.setattr(os, name, lambda a, b, plain=plain: self.call('rename', lambda: plain(a, b), b))
            active.setattr(mx.nd, 'save', save_)
            for place, name in ((mx.nd.NDArray, 'asnumpy'), (mx.nd, 'array')):
                plain = getattr(place, name)
                active.setattr(place, name, lambda *a, plain=plain, **k: self.call('allocate', lambda: plain(*a, **k)))
            yield self


class _Stream:
    """A stream that is written to, whose ``write`` may fail."""

    def __init__(self, stream, failing, path):
        self._stream, self._failing, self._path = stream, failing, path

    def write(self, content):
        return self._failing.call('write', lambda: self._stream.write(content), self._path)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stream.close()

    def __getattr__(self, name):
        return getattr(self._stream, name)
