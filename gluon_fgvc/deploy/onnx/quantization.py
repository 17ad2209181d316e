"""int8: weights and activations of 8 bits, with ranges from images of the run; what loses most stays in float32.

Convolutions and dense layers have a scale for each output channel; activations have one range each, measured on images
(onnxruntime's static quantisation, QDQ). A layer that reads an image stays in float32 if it alone moves the
probabilities by much: what its rounding does, all layers behind repeat. Of EfficientNet-Lite0 on photographs of solar
cells all layers together move them by 0.0085 nats, and by 0.0026 without the first. What loses most besides is found by
quantising one layer at a time, and left out one by one until the accuracy holds.
"""
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from gluon_fgvc.deploy.engines import prepared
from gluon_fgvc.deploy.onnx.runtime import OnnxModel

LAYERS = ('Conv', 'Gemm')
_PERCENTILE = 99.99  # of the values of an activation that its range holds
_SENSITIVE = 2e-3  # nats, of a layer that reads an image
_LOWEST = 'lowest_number'
_AT_ONCE = 4  # images whose activations, some 100 MB, are in memory
# What lies between layers, so that they hand on 8 bits.
_BETWEEN = ('Add', 'MaxPool', 'AveragePool', 'GlobalAveragePool', 'Relu', 'Clip', 'Concat')


class Quantizer:
    """A float32 model with measured ranges, from which int8 models with any layers left out are made.

    :param model: ModelProto.
    :param metadata: of its export.
    :param images: uint8 RGB (H,W,3), whose activations give the ranges.
    :param reduced_range: weights of 7 bits: on processors without VNNI sums of two products saturate at 16 bits.
    :param calibration: one of ``choices.CALIBRATIONS``: ranges from smallest to largest value, without the outermost
        1e-4 of them, or those whose 8 bits tell most of the distribution.
    """

    def __init__(self, model, metadata, images, reduced_range=False, calibration='minmax'):
        self.model = onnx.shape_inference.infer_shapes(model)
        self._metadata, self._reduced_range = metadata, reduced_range
        self.first = _reading_an_image(self.model)  # names of layers
        self._fixed = _keep_in_float(self.model)
        self._ranges = _ranges(self.model, metadata, images, calibration)

    @property
    def layers(self):
        """Names of what can be quantised, in the order of computation."""
        return [node.name for node in self.model.graph.node if node.op_type in LAYERS]

    def quantized(self, in_float=()):
        """Return the int8 ModelProto with the layers ``in_float`` left as they are."""
        from onnxruntime.quantization import QuantType
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
        copy = onnx.ModelProto()
        copy.CopyFrom(self.model)
        quantizer = QDQQuantizer(
            copy, per_channel=True, reduce_range=self._reduced_range, weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8, tensors_range=self._ranges, nodes_to_quantize=[],
            nodes_to_exclude=[*self._fixed, *in_float], op_types_to_quantize=[*LAYERS, *_BETWEEN], extra_options={})
        quantizer.quantize_model()
        model = quantizer.model.model
        _shield(model.graph, set(in_float) - set(self.first))
        del model.graph.value_info[:]
        return model

    def only(self, layer):
        """Return the model in which ``layer`` alone is quantised."""
        return self.quantized([name for name in self._everything() if name != layer])

    def _everything(self):
        return [node.name for node in self.model.graph.node if node.op_type in (*LAYERS, *_BETWEEN)]

    def damage(self, images, layers=None):
        """Return dict of layer → how far it moves the probabilities when it alone is quantised.

        The mean Kullback-Leibler divergence, in nats, over ``images``, uint8 (N,H,W,3). ``layers``: by default all.
        """
        expected = OnnxModel(self.model, self._metadata)(images).astype('float64')

        def divergence(model):
            found = OnnxModel(model, self._metadata)(images).astype('float64')
            return float((expected * np.log((expected + 1e-12) / (found + 1e-12))).sum(axis=1).mean())
        return {layer: divergence(self.only(layer)) for layer in (self.layers if layers is None else layers)}


def _reading_an_image(model):
    """Return the names of layers that read the input, as it is or sampled, and not what another layer made of it."""
    images, names = {model.graph.input[0].name}, []
    for node in model.graph.node:
        if node.input and node.input[0] in images:
            if node.op_type in LAYERS:
                names.append(node.name)
            else:
                images.update(node.output)
    return names


def _keep_in_float(model):
    """Return the names of operators that are arithmetic, not layers: where to sample an image, and scaling by numbers.

    Places have to be known to a fraction of a pixel, which 8 bits cannot tell.
    """
    nodes, arrays = list(model.graph.node), {tensor.name for tensor in model.graph.initializer}
    names = [node.name for node in nodes if node.op_type == 'Add' and arrays & set(node.input)]
    wanted = {node.input[1] for node in nodes if node.op_type == 'GridSample'}
    for node in reversed(nodes):
        if wanted & set(node.output):
            wanted.update(node.input)
            if node.op_type not in LAYERS:
                names.append(node.name)
    return names


def _shield(graph, layers):
    """Keep onnxruntime from quantising the weights of ``layers`` when it opens the model.

    From 1.21 on it does so wherever a layer in float32 lies between two quantised tensors, an activation included, and
    with one scale for all channels, which makes more of an error than int8 by channel (``WeightBiasQuantization``). The
    larger of a value and the lowest number is the value; with it in between, it sees no such place.
    """
    if not layers:
        return
    graph.initializer.append(numpy_helper.from_array(np.array(np.finfo(np.float32).min), _LOWEST))
    for i, node in reversed(list(enumerate(graph.node))):
        if node.name in layers and node.op_type in LAYERS:
            name, inner = node.output[0], f'{node.output[0]}_float'
            node.output[0] = inner
            graph.node.insert(i + 1, onnx.helper.make_node('Max', [inner, _LOWEST], [name], f'{node.name}_float'))


def _ranges(model, metadata, images, calibration):
    from onnxruntime.quantization.calibrate import CalibrationDataReader, CalibrationMethod, create_calibrator

    class Images(CalibrationDataReader):
        def __init__(self, images):
            self._left = iter(images)

        def get_next(self):
            image = next(self._left, None)
            return None if image is None else {metadata.input_name: prepared(image[None], metadata)}

    method, options = {'minmax': (CalibrationMethod.MinMax, {}), 'entropy': (CalibrationMethod.Entropy, {}),
                       'percentile': (CalibrationMethod.Percentile, {'percentile': _PERCENTILE})}[calibration]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'model.onnx'
        onnx.save_model(model, str(path))
        calibrator = create_calibrator(path, [*LAYERS, *_BETWEEN], augmented_model_path=f'{folder}/augmented.onnx',
                                       calibrate_method=method, extra_options=options)
        for first in range(0, len(images), _AT_ONCE):
            calibrator.collect_data(Images(images[first:first + _AT_ONCE]))
        return calibrator.compute_data()


def search(quantizer, images, accepts, most=0.5):
    """Return (model, layers in float, measured): int8 with as few layers in float32 as ``accepts`` wants.

    :param images: uint8 (N,H,W,3) on which layers are compared, if it comes to that.
    :param accepts: ModelProto → (bool, what was measured).
    :param most: the largest share of layers that may stay in float32.

    ``model`` is None if none was accepted; ``measured`` is then that of the last.
    """
    sensitive = [layer for layer, moved in quantizer.damage(images, quantizer.first).items() if moved > _SENSITIVE]
    model = quantizer.quantized(sensitive)
    good, measured = accepts(model)
    if good:
        return model, sensitive, measured
    damage = quantizer.damage(images)
    worst = [*sensitive, *(layer for layer in sorted(damage, key=damage.get, reverse=True) if layer not in sensitive)]
    count, limit = len(sensitive), int(len(worst) * most)
    while count < limit:
        count = min(limit, count + max(1, count // 2))  # 1, 2, 3, 4, 6, 9, 13, …
        model = quantizer.quantized(worst[:count])
        good, measured = accepts(model)
        if good:
            return model, worst[:count], measured
    return None, worst[:count], measured
