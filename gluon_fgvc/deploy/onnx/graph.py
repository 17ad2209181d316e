"""An ONNX graph under construction: nodes, named arrays, and what the operators of MXNet are translated with."""
import ast
import hashlib
from dataclasses import dataclass
from typing import Mapping, Sequence, Tuple

import numpy as np
import onnx
from onnx import helper, numpy_helper

OPSET, IR = 17, 8  # GridSample came with 16; runtimes since 2022 know 17, and IR 8 belongs to it


@dataclass(frozen=True)
class Node:
    """One operator of MXNet's graph, with its inputs as values of the ONNX graph.

    Shapes are tuples whose entries are None where they depend on the number or the size of the images.
    """

    operator: str
    name: str
    attributes: Mapping[str, str]
    inputs: Sequence[str]
    shapes: Sequence[Tuple]      # of the inputs
    out_shapes: Sequence[Tuple]  # of the outputs

    def get(self, key, default=None):
        """Return attribute ``key``: a number, tuple, bool or None as MXNet wrote it, else its text."""
        if key not in self.attributes:
            return default
        try:
            return ast.literal_eval(self.attributes[key])
        except (ValueError, SyntaxError):
            return self.attributes[key]

    def axis(self, key, default, rank=None):
        """Return an axis counted from the front; ``rank`` is that of the first input unless given."""
        value = self.get(key, default)
        return value + (len(self.shapes[0]) if rank is None else rank) if value < 0 else value


class Graph:
    """Nodes in order of computation, and arrays by name."""

    def __init__(self, arrays, taken):
        """Begin with ``arrays``, dict of name → numpy array.

        :param taken: names that no value may have: those of inputs and output.

        ``uses`` is a dict of value → how many operators take it, as far as MXNet's graph says.
        """
        self.arrays, self.uses = dict(arrays), {}
        self._nodes, self._producers, self._shared, self._names = [], {}, {}, {*arrays, *taken}

    def add(self, operator, *inputs, name, outputs=1, **attributes):
        """Append a node and return the name of its output, or a list of them if ``outputs`` is above 1."""
        name = self._free(name)
        names = [name] if outputs == 1 else [self._free(f'{name}.{i}') for i in range(outputs)]
        node = helper.make_node(operator, inputs, names, name=name, **attributes)
        self._nodes.append(node)
        self._producers.update((output, node) for output in names)
        return names[0] if outputs == 1 else names

    def constant(self, values, name, dtype='float32'):
        """Return the name of an array of ``values``; equal arrays are kept once."""
        array = np.ascontiguousarray(values, dtype) if np.ndim(values) else np.array(values, dtype)
        key = (array.dtype.str, array.shape, hashlib.sha256(array.tobytes()).digest())
        if key not in self._shared:
            self._shared[key] = self._free(name)
            self.arrays[self._shared[key]] = array
        return self._shared[key]

    def integers(self, values, name):
        """Return the name of a one-dimensional int64 array, as shapes and axes are given in ONNX."""
        return self.constant(list(values), f'{name}.integers', 'int64')

    def dimension(self, value, axis, name):
        """Return one dimension of ``value`` as a one-dimensional int64 array, computed at run time."""
        return self.add('Shape', value, name=f'{name}.size', start=axis, end=axis + 1)

    def producer(self, value, operator):
        """Return the node that made ``value`` if it is ``operator`` and nothing else takes its output, else None."""
        node = self._producers.get(value)
        return node if node is not None and node.op_type == operator and self.uses.get(value, 0) <= 1 else None

    def model(self, inputs, output, output_shape):
        """Return the ModelProto; ``output`` is a pair of value and the name that users see."""
        value, public = output
        self._nodes.append(helper.make_node('Identity', [value], [public], name=public))
        nodes, needed = [], {public}
        for node in reversed(self._nodes):  # what was folded into others is left out
            if needed & set(node.output):
                nodes.append(node)
                needed.update(node.input)
        arrays = [numpy_helper.from_array(self.arrays[name], name) for name in sorted(needed & set(self.arrays))]
        graph = helper.make_graph(
            nodes[::-1], 'gluon_fgvc', inputs,
            [helper.make_tensor_value_info(public, onnx.TensorProto.FLOAT, output_shape)], arrays)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', OPSET)], ir_version=IR,
                                  producer_name='gluon_fgvc')
        onnx.checker.check_model(model, full_check=True)
        return model

    def _free(self, name):
        candidate, count = name, 1
        while candidate in self._names:
            count += 1
            candidate = f'{name}.{count}'
        self._names.add(candidate)
        return candidate
