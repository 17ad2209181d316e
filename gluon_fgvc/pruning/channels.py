"""Which channels of a network can only be removed together, read from its graph.

An output channel of a convolution, its BatchNorm entries, the depthwise filters behind it and the inputs of its
consumers go together; maps that are added to each other have their channels in common.
"""
import json
from dataclasses import dataclass, field
from typing import List, Optional

from mxnet import sym

POINTWISE = {'Activation', 'relu', 'sigmoid', 'tanh', 'clip', 'LeakyReLU', '_mul_scalar', '_div_scalar',
             '_plus_scalar', '_minus_scalar'}
STILL = {'Pooling', 'Pad', 'Dropout', '_copy', 'BlockGrad'}  # a constant comes out as it went in
SUMS = {'elemwise_add', 'broadcast_add', 'add_n'}


@dataclass
class Group:
    """Channels that can only be removed together; layers by structural name."""

    channels: int
    producers: List[str] = field(default_factory=list)   # convolutions that compute them, depthwise ones included
    consumers: List[str] = field(default_factory=list)   # convolutions that sum over them
    joined: bool = False                                 # whether an addition ties several maps together
    fixed: Optional[str] = None                          # the operator that needs all of them, if one does

    @property
    def name(self):
        return self.producers[0]

    def is_inner(self, depth):
        """Whether the channels live inside one block, a layer ``depth`` names below the root, and join no shortcut."""
        blocks = {tuple(name.split('.')[:depth]) for name in self.producers + self.consumers}
        return not self.joined and len(blocks) == 1


class Channels:
    """Which channels of ``net`` belong together, read from its graph.

    :param net: HybridBlock of one input, its attention folded.
    """

    def __init__(self, net):
        self.net = net
        self.parameters = net._collect_params_with_prefix()
        layer_of = {p.name: name.rpartition('.')[0] for name, p in self.parameters.items()}
        graph = json.loads(net(sym.var('data')).tojson())
        self.nodes = graph['nodes']
        self.layers = [self._layer(node, layer_of) for node in self.nodes]
        self.users = {}
        for number, node in enumerate(self.nodes):
            for source in node['inputs']:
                self.users.setdefault(source[0], []).append(number)
        self._of = {}  # node → number of a group
        self._groups = []
        for number, node in enumerate(self.nodes):
            self._visit(number, node)
        for head in graph['heads']:
            self._fix([head[0]], 'output')

    def _layer(self, node, layer_of):
        if node['op'] not in ('Convolution', 'BatchNorm'):
            return None
        source = self.nodes[node['inputs'][1][0]]
        if source['op'] != 'null':
            raise ValueError(f"the filter of '{node['name']}' is computed by {source['op']}: fold the attention first")
        return layer_of[source['name']]

    def group(self, number):
        """Return the :class:`Group` of the map that node ``number`` computes, or None."""
        return self._groups[self._of[number]] if number in self._of else None

    def groups(self, scope='inner', depth=3):
        """Return the groups that can be pruned, in the order of the network.

        :param scope: 'inner', those inside residual and inverted residual blocks; 'all', also those along chains
            of layers and along shortcuts.
        :param depth: how many names deep a block is, e.g. 3 for ``body.stage1.0``.
        """
        unique = {id(group): group for group in self._groups if group is not None and not group.fixed}
        return [group for group in unique.values() if group.producers and group.consumers
                and (scope == 'all' or group.is_inner(depth))]

    def _visit(self, number, node):
        inputs = [source[0] for source in node['inputs'] if source[0] in self._of]
        op = node['op']
        if op == 'Convolution':
            self._convolution(number, node)
        elif op in SUMS and len(inputs) == len(node['inputs']):
            self._join(number, inputs)
        elif (op in POINTWISE | STILL | {'BatchNorm'} and len(inputs) == 1
              and node.get('attrs', {}).get('act_type') != 'prelu'):
            self._of[number] = self._of[inputs[0]]
        else:
            self._fix(inputs, op)

    def _convolution(self, number, node):
        source, layer = node['inputs'][0][0], self.layers[number]
        outputs = self.parameters[f'{layer}.weight'].shape[0]
        groups, before = int(node['attrs'].get('num_group', 1)), self.group(source)
        if groups == 1 or before is None:
            if before is not None:
                before.consumers.append(layer)
            self._new(number, Group(outputs, [layer], fixed=None if groups == 1 else 'grouped convolution'))
        elif groups == outputs == before.channels:
            before.producers.append(layer)
            self._of[number] = self._of[source]
        else:
            before.fixed = 'grouped convolution'
            self._new(number, Group(outputs, [layer], fixed='grouped convolution'))

    def _new(self, number, group):
        self._of[number] = len(self._groups)
        self._groups.append(group)

    def _join(self, number, inputs):
        first = self.group(inputs[0])
        for other in (self.group(source) for source in inputs[1:]):
            if other is not first:
                if other.channels != first.channels:
                    first.fixed = other.fixed = 'addition of maps of different sizes'
                    continue
                first.producers += other.producers
                first.consumers += other.consumers
                first.fixed = first.fixed or other.fixed
                self._groups = [first if group is other else group for group in self._groups]
        first.joined = True
        self._of[number] = self._of[inputs[0]]

    def _fix(self, inputs, op):
        for source in inputs:
            if source in self._of:
                self.group(source).fixed = self.group(source).fixed or op
