"""An exported network in 8 bits against our fused float32, taking turns; the target holds on processors with VNNI.

The network has random parameters and its ranges come from noise: what it answers means nothing, what it takes does.
"""
import tempfile
from pathlib import Path

import mxnet as mx

from benchmarks import inference
from benchmarks.comparison import Comparison
from gluon_fgvc.deploy import engines, formats
from gluon_fgvc.deploy.metadata import Metadata
from gluon_fgvc.errors import ConfigError
from gluon_fgvc.runs.conversion import has_vnni

TARGETS = {'resnet50_v1b': 1 / 3.0, 'efficientnet_lite0': 1 / 2.0}  # of the time of the fused float32
CALIBRATION = 8  # images of noise that give the ranges


def add_options(parser):
    """Add the options that :func:`measure` reads."""
    parser.add_argument('--backbone', default='efficientnet_lite0', metavar='NAME', help='default: %(default)s')
    parser.add_argument('--reduced-range', action='store_true', help='weights of 7 bits, for processors without VNNI')
    parser.add_argument('--first-in-float', action='store_true',
                        help='as exports have it where that layer moves the probabilities by much')
    inference.add_options(parser, size=224, batch=16)


def measure(options):
    """Return the :class:`Comparison` of formats and engines; ``options`` are those of :func:`add_options`.

    :raises ConfigError: if the network cannot be fused, or the extra ``onnx`` is not installed.
    """
    formats.require()
    from gluon_fgvc.deploy.onnx import conversion
    from gluon_fgvc.deploy.onnx.quantization import Quantizer
    from gluon_fgvc.deploy.onnx.runtime import OnnxModel
    with tempfile.TemporaryDirectory() as folder:
        inference.exported(folder, 'model', mx.cpu(), options.backbone, size=options.size)
        model = Path(folder) / 'model'
        metadata = Metadata.read(model)
        try:
            fused = engines.open_engine('mxnet_fused', model, metadata)
        except engines.NotUsable as reason:
            raise ConfigError(f"--backbone '{options.backbone}': {reason}") from None
        exact = conversion.model_of(model, metadata)
        noise = list(inference.random_pixels(CALIBRATION, options.size))
        quantizer = Quantizer(exact, metadata, noise, options.reduced_range)
        int8 = quantizer.quantized(quantizer.first if options.first_in_float else ())
        opened = {'float32, mxnet_fused': fused, 'float32, onnxruntime': OnnxModel(exact, metadata),
                  'int8': OnnxModel(int8, metadata)}
        seconds = inference.asked_in_turn({name: inference.Asked(engine, options.size)
                                           for name, engine in opened.items()}, options.batch, options.rounds)
    target = TARGETS.get(options.backbone) if has_vnni() else None
    settings = {key: getattr(options, key) for key in ('backbone', 'reduced_range', 'first_in_float', 'size', 'batch',
                                                       'rounds')}
    return Comparison({'vnni': has_vnni(), **settings}, 'image', seconds, target and {'int8': target})
