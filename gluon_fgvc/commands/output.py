"""The terminal is a courtesy: what a tool does must not end because nobody reads what it says.

A reader may leave (``| head``), a connection may break, and an output may know ASCII only. Results are in files.
"""
import os
import sys
from contextlib import contextmanager


@contextmanager
def courteous_output():
    """Replace standard output and error by streams whose writing never fails."""
    ordinary = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (stream and _Courteous(stream) for stream in ordinary)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, _Courteous):
                stream.flush()
        sys.stdout, sys.stderr = ordinary


class _Courteous:
    """A text stream that says what it can to whoever is there."""

    def __init__(self, stream):
        self._stream = stream
        if hasattr(stream, 'reconfigure'):
            stream.reconfigure(errors='backslashreplace')  # names of files, and signs that the encoding lacks

    def write(self, text):
        try:
            return self._stream.write(text)
        except OSError:
            self._leave()
            return len(text)

    def flush(self):
        try:
            self._stream.flush()
        except OSError:
            self._leave()

    def _leave(self):
        """Send all that follows nowhere: also what is buffered, which Python flushes when it ends."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)

    def __getattr__(self, name):
        return getattr(self._stream, name)
