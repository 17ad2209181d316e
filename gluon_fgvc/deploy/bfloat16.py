"""The exported symbol with convolutions and dense layers in bfloat16, for processors that multiply it (AVX512_BF16).

It uses the same parameters, which stay float32; MXNet rounds them when it runs. What it has no kernel for stays float32
too: grouped convolutions, MobileNet's and EfficientNet's among them. So does what says where an image is sampled:
places have to be known to a fraction of a pixel.
"""
import json

import mxnet as mx

_LAYERS = ('Convolution', 'FullyConnected')


def in_bfloat16(text):
    """Return the JSON text of a symbol with its layers in bfloat16."""
    from mxnet.contrib import amp  # it makes a list of all operators
    nodes = json.loads(text)['nodes']
    places = _places(nodes)
    kept = [node['name'] for i, node in enumerate(nodes)
            if node['op'] in _LAYERS and (i in places or int(node['attrs'].get('num_group', 1)) > 1)]
    converted = amp.convert_symbol(mx.sym.load_json(text), target_dtype='bfloat16', excluded_sym_names=kept)
    return converted.tojson(remove_amp_cast=False)


def _places(nodes):
    """Return the numbers of the nodes from which places to sample are computed."""
    found = {node['inputs'][1][0] for node in nodes if node['op'] == 'BilinearSampler'}
    for i in range(len(nodes) - 1, -1, -1):
        if i in found:
            found.update(entry[0] for entry in nodes[i]['inputs'])
    return found
