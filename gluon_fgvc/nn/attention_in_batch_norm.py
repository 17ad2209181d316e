"""Attention of the 'out' form computed by the BatchNorm that follows, so that no weight gradient is needed.

The plain graph forms W ⊙ a, whose gradient is the convolution's weight gradient. Where BatchNorm has fixed
statistics μ, σ² it is affine, and with c = conv(x, W) and s = γ/σ

    BN(a·c + b) = s·(a·c + b − μ) + β = (γ·a)·c/σ + [β + s·(b − μ)],

which is a BatchNorm of c with mean 0, gain γ·a and another shift: its gradient with respect to the gain, which costs
next to nothing, yields a's. A convolution without such a BatchNorm behind it has its output scaled instead.
"""
import json

from mxnet import sym
from mxnet.gluon import ParameterDict, SymbolBlock

from gluon_fgvc.nn.attention_conv import attention_convolutions


def attention_in_batch_norm(net):
    """Return a block that computes what ``net`` computes without scaling any filter, or None.

    None if a convolution of ``net`` has attention for pairs of channels ('in_out'), or none has attention. The
    block has the parameters of ``net``, and means of 0 besides. It holds what ``net`` is now: statistics that are
    fixed now (``use_global_stats``) must stay fixed. Values and gradients, also those of weights, equal the ones of
    ``net`` up to rounding; it pays off where the weights have ``grad_req`` 'null'.

    :param net: HybridBlock of one input.
    """
    convolutions = attention_convolutions(net)
    if not convolutions or any(conv.form != 'out' for conv in convolutions.values()):
        return None
    data = sym.var('data', dtype='float32')
    outputs = net(data)
    graph = json.loads((sym.Group(outputs) if isinstance(outputs, (list, tuple)) else outputs).tojson())
    attention = {conv.attention.name for conv in convolutions.values()}
    rewriting = _Rewriting(graph, attention)
    rewritten = sym.load_json(json.dumps(rewriting.graph()))
    parameters = ParameterDict('')
    parameters.update(net.collect_params())
    for name, mean in rewriting.zeros.items():
        zero = parameters.get(name, grad_req='null', shape=parameters[mean].shape, init='zeros', differentiable=False)
        zero.initialize(ctx=parameters[mean].list_ctx())
    return SymbolBlock(list(rewritten) if isinstance(outputs, (list, tuple)) else rewritten, data, parameters)


class _Rewriting:
    """Copies the nodes of a graph in their order, some in another form.

    A node's input is [number of the node, which of its outputs, 0].
    """

    def __init__(self, graph, attention):
        self.old, self.attention, self.heads = graph['nodes'], attention, graph['heads']
        self.rest = {'attrs': graph['attrs']}  # the version of MXNet that wrote it
        self.nodes, self.moved = [], {}  # (number, output) in the old graph → input in the new one
        self.users, self.zeros = {}, {}  # zeros: name of a mean of 0 → that of the running mean in whose place it is
        for number, node in enumerate(self.old):
            for source in node['inputs']:
                self.users.setdefault(source[0], []).append(number)
        self.pending = {}  # number of a convolution → (attention (O,1,1,1), bias or None) that BatchNorm is to apply

    def graph(self):
        for number, node in enumerate(self.old):
            scale = self._scale(node)
            if scale is not None:
                result = self._convolution(number, node, scale)
            elif node['op'] == 'BatchNorm' and node['inputs'][0][0] in self.pending:
                result = self._batch_norm(node)
            else:
                result = self._add(node['op'], node['name'], [self._new(source) for source in node['inputs']],
                                   node.get('attrs', {}))
            self.moved[number] = result
        return {**self.rest, 'nodes': self.nodes, 'heads': [self._new(head) for head in self.heads],
                'arg_nodes': [number for number, node in enumerate(self.nodes) if node['op'] == 'null']}

    def _add(self, op, name, inputs, attributes=None, **more):
        self.nodes.append({'op': op, 'name': name, 'inputs': inputs,
                           'attrs': {**(attributes or {}), **{key: str(value) for key, value in more.items()}}})
        return [len(self.nodes) - 1, 0, 0]

    def _new(self, source):
        return [self.moved[source[0]][0], source[1], 0]

    def _scale(self, node):
        """Return the product W ⊙ a that is the filter of convolution ``node``, or None."""
        if node['op'] != 'Convolution':
            return None
        product = self.old[node['inputs'][1][0]]
        is_scaled = product['op'] == 'broadcast_mul' and self.old[product['inputs'][1][0]]['name'] in self.attention
        return product if is_scaled else None

    def _convolution(self, number, node, product):
        data, _, *bias = (self._new(source) for source in node['inputs'])
        weight, attention = (self._new(source) for source in product['inputs'])
        plain = self._add('Convolution', node['name'], [data, weight], node['attrs'], no_bias=True)
        users = self.users.get(number, [])
        if len(users) == 1 and _is_affine(self.old[users[0]]) and all(head[0] != number for head in self.heads):
            self.pending[number] = attention, bias[0] if bias else None
            return plain
        name = node['name']
        scaled = self._add('broadcast_mul', f'{name}_scaled', [plain, self._shaped(attention, name, '(1, -1, 1, 1)')])
        if bias:
            scaled = self._add('broadcast_add', f'{name}_biased',
                               [scaled, self._shaped(bias[0], f'{name}_bias', '(1, -1, 1, 1)')])
        return scaled

    def _batch_norm(self, node):
        attention, bias = self.pending[node['inputs'][0][0]]
        data, gamma, beta, mean, variance = (self._new(source) for source in node['inputs'])
        attributes, name = dict(node['attrs']), node['name']

        def derived(op, what, *inputs, **attrs):
            return self._add(op, f'{name}_{what}', list(inputs), **attrs)

        attention = self._shaped(attention, name, '(-1,)')
        if attributes.pop('fix_gamma', 'True') == 'True':  # gamma is then 1, whatever it holds
            gamma = derived('ones_like', 'ones', gamma)
        gain = derived('elemwise_mul', 'gain', gamma, attention)
        deviation = derived('sqrt', 'deviation', derived('_plus_scalar', 'variance', variance,
                                                         scalar=attributes.get('eps', '0.001')))
        slope = derived('elemwise_div', 'slope', gamma, deviation)
        # Nothing but the gain depends on a: with MXNet 1.9.1 a sum of two gradients of it can read memory that a
        # graph of static allocation has not written.
        offset = mean if bias is None else derived('elemwise_sub', 'mean_less_bias', mean, bias)
        shift = derived('elemwise_sub', 'shift', beta, derived('elemwise_mul', 'offset', slope, offset))
        zero = derived('null', 'zero_mean')
        self.zeros[f'{name}_zero_mean'] = self.nodes[mean[0]]['name']
        return self._add('BatchNorm', name, [data, gain, shift, zero, variance], attributes, fix_gamma=False)

    def _shaped(self, vector, name, shape):
        return self._add('Reshape', f'{name}_attention', [vector], shape=shape)


def _is_affine(node):
    attributes = node.get('attrs', {})
    return (node['op'] == 'BatchNorm' and attributes.get('use_global_stats') == 'True'
            and attributes.get('axis', '1') == '1')
