"""Processes that train one network together, each on its part of every batch: what they have to agree on.

They meet on MXNet's parameter server. Of it nothing is used but that it adds what all push; optimizers, rates and
phases stay where they are, so that a team of processes follows the same rules as one. Sums have the same bits however
the pushes arrive: see :meth:`Team.add_gradients`.
"""
import os
import sys

import mxnet as mx
import numpy as np

from gluon_fgvc.engine import ending
from gluon_fgvc.errors import ConfigError, Interrupted
from gluon_fgvc.machine.connections import Watch

KINDS = ('dist_sync', 'dist_device_sync')  # of run.kvstore
# The servers add in float32, in the order in which pushes arrive. Of more than two processes, gradients are therefore
# multiples of 2^-40, in limbs of 20 bits: float32 adds them exactly over 32 processes and up to gradients of 2^23.
GRID, LIMB = 2.0 ** 40, 2.0 ** 20


class Alone:
    """A team of one, to whom there is nothing to say."""

    rank, size, writes = 0, 1, True

    def images(self, count):
        """Return how many images the update is of, ``count`` of them here."""
        return count

    def add_gradients(self, parameters):
        """Add the gradients of all processes."""

    def mean(self, arrays):
        """Return the mean over all processes of a list of NDArrays."""
        return arrays

    def add(self, values):
        """Return the sum over all processes of ``values``, numpy (n,) float64."""
        return values

    def collect(self, content):
        """Return the ``content``, bytes, of every process."""
        return [content]

    def gather(self, rows):
        """Return numpy ``rows`` (n,…) of all processes, those of rank 0 first."""
        return np.concatenate([np.frombuffer(content, rows.dtype).reshape(-1, *rows.shape[1:])
                               for content in self.collect(rows.tobytes())])

    def stop_if_asked(self):
        """Raise Interrupted if this process, or any of a team, was asked to end before the last update."""
        ending.stop_if_asked()

    def leave(self):
        """Need the others no longer."""


class Team(Alone):
    """The processes that :command:`fgvc launch` or a scheduler has started, connected.

    ``rank`` is from 0 to ``size`` - 1, and the process of rank 0 alone writes. All of them make the same calls in the
    same order.

    :param kind: one of KINDS.
    """

    def __init__(self, kind):
        self._store = mx.kv.create(kind)
        self.rank, self.size, self.writes = self._store.rank, self._store.num_workers, self._store.rank == 0
        self._keys, self._asked = {}, False
        ending.leave_to_team()
        self.barrier()
        self._watch = Watch(_end_alone)

    def leave(self):
        self._watch.stop()

    def barrier(self):
        """Wait for all processes."""
        mx.nd.waitall()
        self._store._barrier()

    def images(self, count):
        images, asked = self._push(mx.nd.array([count, bool(ending.heard())])).asnumpy()
        self._asked = self._asked or asked > 0
        return int(images)

    def add_gradients(self, parameters):
        """Add the gradients of all processes, those of the first device of each standing for all of its devices.

        They travel as one vector. A sum of two has no order; of more they are cut into whole numbers so small that
        their sums are exact.
        """
        replicas = [parameter.list_grad() for parameter in parameters if parameter.grad_req != 'null']
        flat = mx.nd.concat(*[arrays[0].as_in_context(mx.cpu()).reshape((-1,)) for arrays in replicas], dim=0)
        total, start = self._push(flat) if self.size == 2 else _join(self._push(_cut(flat))), 0
        for arrays in replicas:
            part = total[start:start + arrays[0].size].reshape(arrays[0].shape)
            for array in arrays:
                part.copyto(array)
            start += arrays[0].size

    def mean(self, arrays):
        own = np.concatenate([array.asnumpy().ravel() for array in arrays]) if arrays else np.zeros(0)
        rest = self.add(own.astype('float64')) / self.size
        means = []
        for array in arrays:
            means.append(mx.nd.array(rest[:array.size].reshape(array.shape), dtype=array.dtype))
            rest = rest[array.size:]
        return means

    def add(self, values):
        return sum(np.frombuffer(content, 'float64') for content in self.collect(values.tobytes()))

    def collect(self, content):
        lengths = np.zeros((self.size, 2), 'float32')
        lengths[self.rank] = divmod(len(content), 1 << 20)
        lengths = (self._push(mx.nd.array(lengths)).asnumpy().astype(int) * (1 << 20, 1)).sum(axis=1)
        # The server adds in float32, which holds two bytes as a whole number. Few widths, as each has memory there.
        width = 1 << int(max(lengths) // 2 + 512).bit_length()
        rows = np.zeros((self.size, width), 'float32')
        rows[self.rank] = np.frombuffer(content.ljust(2 * width, b'\0'), '<u2')
        rows = self._push(mx.nd.array(rows)).asnumpy().astype('<u2')
        return [row.tobytes()[:length] for row, length in zip(rows, lengths)]

    def stop_if_asked(self):
        if self._asked:
            own = ending.heard()
            raise Interrupted(f'asked to end by {own}' if own else 'another process was asked to end')

    def _push(self, array):
        """Return the sum of ``array``, float32, over the processes; each shape has a key of its own on the servers."""
        if array.shape not in self._keys:
            self._keys[array.shape] = len(self._keys)
            self._store.init(self._keys[array.shape], mx.nd.zeros(array.shape))
            self.barrier()
        self._store.push(self._keys[array.shape], array)
        total = mx.nd.empty(array.shape)
        self._store.pull(self._keys[array.shape], out=total)
        return total


def _end_alone(address):
    """End this process, whose main thread waits in MXNet for an answer that will not come."""
    root = ':'.join(os.environ[f'DMLC_PS_ROOT_{name}'] for name in ('URI', 'PORT'))
    print(f"error: the connection to the {'scheduler' if address == root else 'server'} at {address} is lost; --resume "
          'goes on from the last checkpoint', file=sys.stderr, flush=True)
    os._exit(1)


def _cut(values):
    """Return ``values``, float32 (n,), in multiples of 1 / GRID as three numbers (3n,) of LIMB bits each."""
    rest, limbs = (values.astype('float64') * GRID).round(), []
    for _ in range(2):
        above = (rest / LIMB).round()
        limbs.append((rest - above * LIMB).astype('float32'))
        rest = above
    return mx.nd.concat(*limbs, rest.astype('float32'), dim=0)


def _join(limbs):
    """Return the values (n,) of which :func:`_cut` has cut (3n,), or of their sums."""
    low, middle, high = (part.astype('float64') for part in limbs.split(3, axis=0))
    return (((high * LIMB + middle) * LIMB + low) / GRID).astype('float32')


def join(kind):
    """Return the team of ``run.kvstore`` ``kind``: a :class:`Team`, or :class:`Alone` where one process trains.

    :raises ConfigError: where the process was not started as one of several, or as one of several by mistake.
    """
    if kind == 'dist_async':
        raise ConfigError(f"run.kvstore: '{kind}' updates on the servers, which know nothing of schedules, phases and "
                          f"lr_mult, and whose optimizer no checkpoint holds; set it to {' or '.join(KINDS)}")
    role = os.environ.get('DMLC_ROLE')
    if kind not in KINDS:
        if role:
            raise ConfigError(f"run.kvstore: '{kind}' is of one process, and DMLC_ROLE is '{role}': each would train "
                              f"by itself; set it to {' or '.join(KINDS)}")
        return Alone()
    missing = [name for name in ('DMLC_ROLE', 'DMLC_PS_ROOT_URI', 'DMLC_PS_ROOT_PORT', 'DMLC_NUM_WORKER',
                                 'DMLC_NUM_SERVER') if not os.environ.get(name)]
    if missing:
        raise ConfigError(f"run.kvstore: '{kind}' is of several processes, which fgvc launch starts; not set: "
                          f"{', '.join(missing)}")
    return Team(kind)
