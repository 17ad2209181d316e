"""Convolutions whose filters are scaled by trainable attention weights that start at 1.

A pretrained network keeps its filters and learns how much of each it needs: a few epochs adapt it, and the weights
rank its channels. The paper is the one of :mod:`gluon_fgvc.methods.attention_scaled`.
"""
from mxnet.gluon import nn

from gluon_fgvc.nn.parameters import walk

FORMS = ('in_out', 'out')


class AttentionConv2D(nn.Conv2D):
    """``y = conv(x, W ⊙ a) + b``: a convolution with attention weights; the bias is not scaled (paper, Sec. 4.1).

    :param form: 'in_out', one weight for each pair of output and input channel, a is (O,I/groups,1,1); 'out', one
        for each output channel, (O,1,1,1).
    :param in_channels: I; it must be given, because the shape of a hangs on it.

    The other arguments are those of ``nn.Conv2D`` (layout NCHW). At a = 1, where it starts, the layer computes what
    the plain convolution does, bit for bit. Weight decay leaves a alone: it would pull towards 0, not 1.

    Inputs: (N,I,H,W). Outputs: (N,O,h,w). Gradient flows to x, W, a and b: ∂L/∂a is W's gradient contracted with W
    over the window, and for 'out' over the input channels as well (:mod:`gluon_fgvc.nn.attention_in_batch_norm` does
    without W's gradient there).

    :raises ValueError: for an unknown form, another layout, or no ``in_channels``.
    """

    def __init__(self, channels, kernel_size, *args, in_channels=0, form='in_out', **kwargs):
        if form not in FORMS:
            raise ValueError(f"form '{form}' is none of {', '.join(FORMS)}")
        if not in_channels:
            raise ValueError('in_channels must be given: the shape of the attention weights hangs on it')
        super().__init__(channels, kernel_size, *args, in_channels=in_channels, **kwargs)
        if self._kwargs['layout'] != 'NCHW':
            raise ValueError(f"layout {self._kwargs['layout']} must be NCHW")
        self.form = form
        outputs, inputs = self.weight.shape[:2]
        with self.name_scope():
            self.attention = self.params.get('attention', shape=(outputs, inputs if form == 'in_out' else 1, 1, 1),
                                             init='ones', wd_mult=0.0)

    def hybrid_forward(self, F, x, weight, attention, bias=None):
        return super().hybrid_forward(F, x, F.broadcast_mul(weight, attention), bias)


def replace_convolutions(net, form='in_out'):
    """Give every ``nn.Conv2D`` inside ``net`` attention weights of 1, in place, and return ``net``.

    Outputs stay the same, bit for bit. Weights, biases and their structural names stay; ``.attention`` comes beside
    ``.weight``, on the same devices. Stem and down-sampling convolutions are included, and a convolution used in
    several places stays one. Blocks around ``net`` that are hybridized already must be hybridized again.

    :param form: see :class:`AttentionConv2D`.
    :raises ValueError: if there is no convolution inside, one has attention already, or its input size is unknown.
    """
    if attention_convolutions(net):
        raise ValueError('the network has attention weights already')

    def scaled(conv):
        if len(conv.weight.shape) != 4 or not all(conv.weight.shape):
            raise ValueError(f"the shape of '{conv.weight.name}' is not known yet, {conv.weight.shape}; give "
                             'in_channels, or run one forward pass first')
        new = _like(conv, AttentionConv2D, form=form)
        try:
            new.attention.initialize(ctx=conv.weight.list_ctx())
        except RuntimeError:  # nobody has initialised the network yet
            pass
        return new

    if not _replace(net, nn.Conv2D, scaled):
        raise ValueError('there is no convolution inside the network')
    return net


def fold_attention(net):
    """Multiply all attention weights of ``net`` into its convolutions, which become plain again, and return ``net``.

    In place; outputs are equal up to rounding (bit for bit on CPU, where the product is formed before either way).
    A network without attention stays as it is. Blocks around ``net`` must be hybridized again.
    """
    for conv in attention_convolutions(net).values():
        _multiply(conv)
    _replace(net, AttentionConv2D, lambda conv: _like(conv, nn.Conv2D))
    return net


def attention_convolutions(net):
    """Return dict of structural name (``body.stage1.0.conv1``) → :class:`AttentionConv2D`, each layer once."""
    return {path: child for path, child in walk(net) if isinstance(child, AttentionConv2D)}


def _multiply(conv):
    for weight, attention in zip(conv.weight.list_data(), conv.attention.list_data()):
        weight[:] = weight * attention


def _like(conv, kind, **more):
    """Return a convolution of class ``kind`` with the settings, name and parameters of ``conv``."""
    settings, bias = conv._kwargs, conv.bias
    new = kind(settings['num_filter'], settings['kernel'], settings['stride'], settings['pad'], settings['dilate'],
               settings['num_group'], settings['layout'], use_bias=bias is not None,
               in_channels=conv.weight.shape[1] * settings['num_group'], weight_initializer=conv.weight.init,
               bias_initializer='zeros' if bias is None else bias.init, prefix=conv.prefix, params=conv.params, **more)
    if conv.act is not None:
        new.act = conv.act
    return new


def _replace(net, kind, make):
    """Put ``make(layer)`` in the place of each layer of exactly class ``kind``; return how many there were."""
    made = {}
    for parent in [net, *(block for _, block in walk(net))]:
        for name, child in parent._children.items():
            if type(child) is kind:
                if id(child) not in made:
                    made[id(child)] = child, make(child)
                parent._children[name] = made[id(child)][1]
                if name in vars(parent):
                    vars(parent)[name] = made[id(child)][1]  # setattr refuses a block of another class
    if made:
        net.apply(lambda block: block._clear_cached_op())
    return len(made)
