"""Size, multiply-adds and speed of each backbone; writes the table of docs/backbones.md.

What was measured is kept in a JSON file, one backbone after the other: an interrupted run goes on where it
stopped, and backbones that are there already are not measured again. Times are of the backbone and its pool on
random images, compiled, without loading and without optimizer: forward, and forward and backward.
"""
import gc
import json
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Mapping

import mxnet as mx
from mxnet import autograd

from gluon_fgvc import backbones
from gluon_fgvc.backbones import zoo
from gluon_fgvc.commands import cli
from gluon_fgvc.errors import ConfigError, did_you_mean
from gluon_fgvc.files import write_atomically
from gluon_fgvc.nn import complexity
from gluon_fgvc.runs import environment

BEGIN, END = '<!-- python tools/benchmark.py backbones -->', '<!-- end of the table -->'
# Sides in pixels where they are not 224.
SIDES = {'cluttered_cnn': 40, 'inceptionv3': 299, 'efficientnet_lite1': 240, 'efficientnet_lite2': 260}


def add_options(parser):
    """Add the options that :func:`measure` reads."""
    parser.add_argument('names', nargs='*', metavar='BACKBONE', help='which ones; default: all')
    parser.add_argument('--only-table', action='store_true', help='measure no times')
    parser.add_argument('--again', action='store_true', help='measure times that are there already')
    parser.add_argument('--batch', type=cli.positive, default=8, metavar='N',
                        help='images at once; default: %(default)s')
    parser.add_argument('--rounds', type=cli.positive, default=5, metavar='N',
                        help='samples of each time, after one to warm up; default: %(default)s')
    parser.add_argument('--page', default='docs/backbones.md', metavar='FILE', help='default: %(default)s')
    parser.add_argument('--rows', default='docs/backbones.json', metavar='FILE',
                        help='where everything is kept; default: %(default)s')


def measure(options):
    """Return the :class:`Rows` of the chosen backbones, having brought file and page up to date."""
    unknown = [name for name in options.names if name not in backbones.available()]
    if unknown:
        raise ConfigError(f"unknown backbone '{unknown[0]}'{did_you_mean(unknown[0], backbones.available())}")
    page = _page(options.page)
    names, rows = options.names or backbones.available(), _read(options.rows)
    for name in names:
        rows[name] = {**rows.get(name, {}), **describe(name)}
        if not options.only_table and (options.again or 'forward' not in rows[name]):
            rows[name].update(times(name, options.batch, options.rounds))
            gc.collect()  # the blocks of a net refer to one another
        _write(options.rows, rows)
    write_atomically(options.page, '\n'.join([page[0] + BEGIN, '', *table(rows), '', END + page[1]]))
    return Rows({'batch': options.batch, 'rounds': options.rounds}, {name: rows[name] for name in names})


@dataclass(frozen=True)
class Rows:
    """What is known of some backbones, in the form of a benchmark's result."""

    settings: Mapping
    rows: Mapping[str, Mapping]

    def table(self):
        return table(self.rows)

    def record(self):
        return {'rows': self.rows}

    def kept(self):
        return True


def side_of(name):
    """Return the side in pixels of the images that backbone ``name`` is made for."""
    return SIDES.get(name, 32 if 'cifar' in name or name.startswith('warn_') else 224)


def describe(name):
    """Return what the shapes say of backbone ``name``, without a classifier on top."""
    net = backbones.build(name)
    side = side_of(name)
    return {'side': side, 'channels': net.channels, 'strides': net.strides,
            'parameters': complexity.parameters(net), 'multiply_adds': complexity.multiply_adds(net, 3, side, side),
            'zoo_weights': name in zoo.NAMES and zoo.store(name) is not None}


def times(name, batch, rounds):
    """Return images/s of backbone ``name`` and what they were measured with."""
    ctx = mx.gpu() if mx.context.num_gpus() else mx.cpu()
    mx.random.seed(0)
    net, side = backbones.get(name, ctx=ctx), side_of(name)
    net.hybridize(static_alloc=True, static_shape=True)
    net.pool.hybridize()
    images = mx.nd.random.normal(shape=(batch, 3, side, side), ctx=ctx)

    def forward():
        net.pool(net(images)).wait_to_read()

    def backward():
        with autograd.record():
            loss = net.pool(net(images)).sum()
        loss.backward()
        mx.nd.waitall()

    machine = environment()
    return {'forward': batch / _seconds(forward, rounds), 'backward': batch / _seconds(backward, rounds),
            'batch': batch, 'machine': f"{machine['cpu']}, {machine['omp_num_threads']} threads, {ctx.device_type}"}


def _seconds(step, rounds):
    step()
    samples = []
    for _ in range(rounds):
        start = time.perf_counter()
        step()
        samples.append(time.perf_counter() - start)
    return median(samples)


def _speed(images):
    return f'{images:,.1f}' if images < 100 else f'{images:,.0f}'


def table(rows):
    """Return the lines of a Markdown table of ``rows``, and where its times come from."""
    lines = ['| backbone | weights in its zoo | channels of the stages | strides | image, px | parameters, M | '
             'multiply-adds, G | forward, images/s | and backward |', '|---|---|---|---|--:|--:|--:|--:|--:|']
    for name in sorted(rows):
        row = rows[name]
        speeds = [_speed(row[key]) if key in row else '–' for key in ('forward', 'backward')]
        channels, strides = (' '.join(map(str, row[key])) for key in ('channels', 'strides'))
        lines.append(' | '.join([
            f'| {name}', 'yes' if row['zoo_weights'] else 'no', channels, strides, str(row['side']),
            f"{row['parameters'] / 1e6:.2f}", f"{row['multiply_adds'] / 1e9:.3f}", *speeds]) + ' |')
    machines = sorted({(row['machine'], row['batch']) for row in rows.values() if 'machine' in row})
    return lines + [''] * bool(machines) + [f'Times: batches of {batch} on {machine}.' for machine, batch in machines]


def _page(path):
    """Return what stands before and behind the table in the page ``path``."""
    try:
        text = Path(path).read_text('utf-8')
        (before, rest), = [text.split(BEGIN)]
        (_, behind), = [rest.split(END)]
    except FileNotFoundError:
        raise ConfigError(f"no page '{path}'; run this in the folder of the repository, or give --page") from None
    except ValueError:
        raise ConfigError(f"'{path}' has no place for the table, between one line {BEGIN} and one {END}") from None
    return before, behind


def _read(path):
    try:
        rows = json.loads(Path(path).read_text('utf-8'))
    except FileNotFoundError:
        return {}
    except ValueError:
        raise ConfigError(f"'{path}' is not JSON; mend or remove it") from None
    return rows


def _write(path, rows):
    lines = [f'{json.dumps(name)}: {json.dumps(rows[name])}' for name in sorted(rows)]
    write_atomically(path, '{\n' + ',\n'.join(lines) + '\n}\n')
