"""What 8 bits cost a trained network: onnxruntime's static quantisation and MXNet's, with each way to take the ranges.

No layer is left in float32 for the sake of accuracy; a first one that moves much is, as in an export. Accuracy, not
speed: other work on the machine does no harm.
"""
import tempfile
from dataclasses import dataclass
from typing import Mapping

import mxnet as mx
import numpy as np

from gluon_fgvc import deploy, runs
from gluon_fgvc.choices import CALIBRATIONS
from gluon_fgvc.deploy.engines import softmax
from gluon_fgvc.deploy.metadata import Metadata
from gluon_fgvc.errors import ConfigError
from gluon_fgvc.runs import conversion

MXNET = ('naive', 'entropy')
WAYS = (*(f'onnxruntime-{name}' for name in CALIBRATIONS), *(f'mxnet-{name}' for name in MXNET))


@dataclass
class Costs:
    """Shares and divergences of each way, and what they are measured on."""

    settings: Mapping
    rows: Mapping  # way → {'top1', 'loss_points', 'agreement', 'divergence'}

    def table(self):
        lines = ['| int8 by | top-1 | points lost | same class | divergence, nats |', '|---|--:|--:|--:|--:|']
        return lines + [f"| {way} | {row['top1']:.2%} | {row['loss_points']:.2f} | {row['agreement']:.1%} | "
                        f"{row['divergence']:.4f} |" for way, row in self.rows.items()]

    def record(self):
        return {'rows': dict(self.rows)}

    def kept(self):
        return True  # it has no target: the bound is export's


def add_options(parser):
    """Add the options that :func:`measure` reads."""
    parser.add_argument('run', metavar='RUN', help='run folder')
    parser.add_argument('--data-root', metavar='DIR', help="where the run's data set is now")
    parser.add_argument('--split', choices=('val', 'test'), help='default: val, or test where there is none')
    parser.add_argument('--images', type=int, default=300, metavar='N', help='that judge; default: %(default)s')
    parser.add_argument('--ways', nargs='+', choices=WAYS, default=WAYS, metavar='WAY', help=f"{', '.join(WAYS)}; "
                        'default: all; mxnet-entropy takes many minutes')


def measure(options):
    """Return the :class:`Costs`; ``options`` are those of :func:`add_options`."""
    if options.images < 1:
        raise ConfigError(f'--images {options.images} must be at least 1')
    run = runs.open_run(options.run, 'best', [mx.cpu()], data_root=options.data_root)
    if options.split == 'val' and run.source.val is None:
        raise ConfigError('--split val: this run has no validation split')
    judged = conversion.sample(run, options.split, options.images) if options.split else \
        conversion.judging_sample(run, options.images)
    calibration = conversion.sample(run, 'train', conversion.CALIBRATION).images
    with tempfile.TemporaryDirectory() as folder:
        model, metadata = _exported(run, folder, judged.images)
    expected = conversion.probabilities(_onnx(model, metadata), judged.images)
    rows = {'float32, by onnxruntime': _costs(expected, expected, judged.labels)}
    for way in options.ways:
        library, name = way.split('-')
        made = _mxnet(run, metadata, calibration, name) if library == 'mxnet' else \
            _onnx(_quantized(model, metadata, calibration, name), metadata)
        rows[way] = _costs(conversion.probabilities(made, judged.images), expected, judged.labels)
    return Costs({'run': options.run, 'backbone': run.cfg.backbone.name, 'images': len(judged.labels),
                  'split': judged.split, 'size': list(metadata.size), 'calibrated_on': len(calibration)}, rows)


def _exported(run, folder, images):
    from gluon_fgvc.deploy.onnx import conversion as onnx_conversion
    deploy.export(run.method.deployed(), f'{folder}/export', classes=run.classes, eval_view=run.cfg.data.eval,
                  input_size=images[0].shape[:2], mean=run.normalize.mean, std=run.normalize.std,
                  method=run.cfg.method.name, images=images[:4])
    metadata = Metadata.read(f'{folder}/export')
    return onnx_conversion.model_of(f'{folder}/export', metadata), metadata


def _onnx(model, metadata):
    from gluon_fgvc.deploy.onnx.runtime import OnnxModel
    return OnnxModel(model, metadata)


def _quantized(model, metadata, images, calibration):
    from gluon_fgvc.deploy.onnx.quantization import Quantizer, search
    quantizer = Quantizer(model, metadata, list(images), calibration=calibration)
    return search(quantizer, images[:conversion.COMPARED], lambda candidate: (True, None))[0]


def _mxnet(run, metadata, images, calibration):
    """Return pixels → probabilities of MXNet's own quantisation, by oneDNN."""
    from mxnet.contrib.quantization import quantize_net_v2

    from gluon_fgvc.deploy.engines import normalized
    data = normalized(images, metadata)
    net = quantize_net_v2(run.method.deployed(), quantized_dtype='auto', quantize_mode='smart',
                          quantize_granularity='channel-wise', calib_mode=calibration, ctx=mx.cpu(), logger=None,
                          calib_data=mx.io.NDArrayIter(data, batch_size=16), num_calib_examples=len(data),
                          data_shapes=[mx.io.DataDesc('data', (16, *data.shape[1:]))])
    net.hybridize(static_alloc=True, static_shape=True)
    return lambda pixels: softmax(net(mx.nd.array(normalized(pixels, metadata))).asnumpy())


def _costs(found, expected, labels):
    before, now = (probabilities.argmax(axis=1) for probabilities in (expected, found))
    expected, found = expected.astype('float64'), found.astype('float64')
    ratio = (expected + 1e-12) / (found + 1e-12)
    return {'top1': float((now == labels).mean()), 'agreement': float((now == before).mean()),
            'loss_points': 100 * float((before == labels).mean() - (now == labels).mean()),
            'divergence': float((expected * np.log(ratio)).sum(axis=1).mean())}
