"""Engines that run an exported network here, `auto` among them, and PyTorch on the same architecture; target 0.95.

Each network has random parameters, takes pixels and is asked for one image and for a batch in turn. `auto` is the
engine that `engine: auto` chose. PyTorch runs where --torch names a Python that has torch, torchvision and timm: as
it is (channels last), and compiled.
"""
import contextlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Mapping

import mxnet as mx

from benchmarks import inference
from benchmarks.comparison import Comparison
from gluon_fgvc.deploy import choice, engines, formats
from gluon_fgvc.deploy.measure import Worker
from gluon_fgvc.deploy.metadata import Metadata
from gluon_fgvc.errors import ConfigError

TARGET = 0.95
TORCH = {'resnet50_v1': 'torchvision.models.resnet50()', 'resnet50_v1b': 'torchvision.models.resnet50()',
         'mobilenetv2_1.0': 'torchvision.models.mobilenet_v2()',
         'efficientnet_lite0': "timm.create_model('tf_efficientnet_lite0')"}

# Answers each line of a number of images with the seconds that they took.
WORKER = '''
import json, sys, time
import timm, torch, torchvision
torch.set_num_threads(int(sys.argv[3]))
net = eval(sys.argv[1]).eval().to(memory_format=torch.channels_last)
if sys.argv[4] == 'compiled':
    net = torch.compile(net)
with torch.inference_mode():
    for line in sys.stdin:
        x = torch.rand(int(line), 3, int(sys.argv[2]), int(sys.argv[2])).to(memory_format=torch.channels_last)
        start = time.perf_counter()
        net(x).numpy()
        print(json.dumps(time.perf_counter() - start), flush=True)
'''


def add_options(parser):
    """Add the options that :func:`measure` reads."""
    parser.add_argument('--backbones', nargs='+', metavar='NAME', help='default: %(default)s',
                        default=['resnet50_v1b', 'mobilenetv2_1.0', 'efficientnet_lite0'])
    parser.add_argument('--torch', metavar='PYTHON', help='a Python that has torch, torchvision and timm')
    inference.add_options(parser, size=224, batch=16)


@dataclass(frozen=True)
class Engines:
    """A :class:`Comparison` for each network and number of images, with `auto` for its baseline."""

    settings: Mapping
    comparisons: Mapping[str, Comparison]

    def share(self, comparison):
        """Return how fast `auto` is as a share of the fastest, by medians of the ratios within each round."""
        return min([1.0] + [row['ratio']['median'] for row in comparison.summary()[1:]])

    def kept(self):
        """Whether `auto` was nowhere slower than the target."""
        return all(self.share(comparison) >= TARGET for comparison in self.comparisons.values())

    def table(self):
        """Return what was measured as lines of text."""
        lines = []
        for name, comparison in self.comparisons.items():
            lines += ['', f'{name}: auto at {self.share(comparison):.3f} of the fastest', *comparison.table()]
        return [*lines, '', f"target: auto at least {TARGET} of the fastest, {'kept' if self.kept() else 'missed'}"]

    def record(self):
        """Return all samples and what they say, for a JSON file."""
        return {'target': TARGET, 'kept': self.kept(),
                'networks': {name: {'share': self.share(comparison), **comparison.record()}
                             for name, comparison in self.comparisons.items()}}


def measure(options):
    """Return the :class:`Engines` compared; ``options`` are those of :func:`add_options`.

    :raises ConfigError: if PyTorch is to run a network that is not known to be there.
    """
    unknown = [name for name in options.backbones if name not in TORCH] if options.torch else []
    if unknown:
        raise ConfigError(f"--torch: '{unknown[0]}' has no counterpart there; there are {', '.join(TORCH)}")
    comparisons = {}
    for backbone in options.backbones:
        comparisons.update(_of_network(backbone, options))
    return Engines({key: getattr(options, key) for key in ('backbones', 'size', 'batch', 'rounds')}, comparisons)


def _of_network(backbone, options):
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        inference.exported(folder, backbone, mx.cpu(), backbone, size=options.size)
        model = Path(folder) / backbone
        formats.write(model, inference.random_pixels(2, options.size), ['onnx'])
        metadata = Metadata.read(model)
        chosen, why = choice.choose(model, metadata)
        print(f'{backbone}: auto chose {why}', flush=True)
        opened = {'auto': chosen}
        for name in engines.possible(metadata):
            if name != chosen.name:
                with contextlib.suppress(engines.NotUsable):
                    opened[name] = engines.open_engine(name, model, metadata)
        asked = {name: inference.Asked(engine, options.size) for name, engine in opened.items()}
        if options.torch:
            for how in ('as it is', 'compiled'):
                words = [options.torch, '-W', 'ignore', '-c', WORKER, TORCH[backbone], str(options.size),
                         str(engines.threads()), how]
                asked[f'PyTorch, {how}'] = stack.enter_context(Worker(f'PyTorch, {how},', words)).ask
        return {f'{backbone}, {count} image' + 's' * (count > 1): Comparison(
            {'backbone': backbone, 'images': count}, 'image', inference.asked_in_turn(asked, count, options.rounds))
            for count in sorted({1, options.batch})}
