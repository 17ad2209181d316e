"""The exported symbol becomes an ONNX model, or one whose weights take half of the space."""
import json
import os

import mxnet as mx
import numpy as np
import onnx
from onnx import helper, numpy_helper

from gluon_fgvc.deploy.metadata import PARAMETERS, SYMBOL
from gluon_fgvc.deploy.onnx.translation import translate
from gluon_fgvc.errors import CheckFailed

_SMALL = 256  # an array of fewer numbers stays as it is


def model_of(folder, metadata):
    """Return the ONNX ModelProto of an exported model: one input, ``data``, and one output, logits or probabilities.

    The input is float32 (batch,3,height,width), or uint8 (batch,height,width,3) where preprocessing is baked; height
    and width are numbers unless the graph is flexible. Classes and preparation are in its ``metadata_props``.

    :raises CheckFailed: for an operator without a translation.
    """
    with open(os.path.join(folder, SYMBOL), encoding='utf-8') as stream:
        symbol = stream.read()
    parameters = {name.split(':', 1)[1]: value.asnumpy()
                  for name, value in mx.nd.load(os.path.join(folder, PARAMETERS)).items()}
    height, width = metadata.size
    other = metadata.shape(3, *((2 * height + 64, 2 * width + 64) if metadata.flexible else (height, width)))
    name = metadata.input_name
    model = translate(symbol, parameters, {name: metadata.shape(2, height, width)}, {name: other}, metadata.output,
                      'uint8' if metadata.takes_pixels else 'float32')
    tree = metadata.tree()
    helper.set_model_props(model, {'classes': json.dumps(tree['classes']), 'values': tree['input']['values'],
                                   'mean': json.dumps(tree['mean']), 'std': json.dumps(tree['std']),
                                   'resize': json.dumps(tree['resize']),
                                   'calibration': json.dumps(tree['calibration']), 'method': metadata.method})
    return model


def with_float16_weights(model):
    """Return a copy whose arrays are stored as float16 and computed with as float32: half of the size, not the speed.

    :raises CheckFailed: if a weight is larger than float16 can hold.
    """
    copy, casts, kept = onnx.ModelProto(), [], []
    copy.CopyFrom(model)
    for tensor in copy.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype != np.float32 or array.size < _SMALL:
            kept.append(tensor)
            continue
        if np.abs(array).max() > np.finfo('float16').max:
            raise CheckFailed(f"array '{tensor.name}' reaches {np.abs(array).max():.3g}, float16 65504; use another "
                              'format')
        half = f'{tensor.name}.float16'
        kept.append(numpy_helper.from_array(array.astype('float16'), half))
        casts.append(helper.make_node('Cast', [half], [tensor.name], name=f'{tensor.name}.cast',
                                      to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *copy.graph.node]
    del copy.graph.node[:], copy.graph.initializer[:]
    copy.graph.node.extend(nodes)
    copy.graph.initializer.extend(kept)
    onnx.checker.check_model(copy, full_check=True)
    return copy
