"""Attention modules and gates of WARN (Rodríguez et al., Attend and Rectify, ECCV 2018)."""
import mxnet as mx
from mxnet import nd
from mxnet.gluon import HybridBlock, nn

from gluon_fgvc.nn.vector_batch_norm import VectorBatchNorm

KERNEL = 3
_TAPS = [(i, j) for i in range(KERNEL) for j in range(KERNEL)]
_BORDER = {'mode': 'constant', 'pad_width': (0, 0, 0, 0, 1, 1, 1, 1)}
# He et al. 2015: what the released code draws all weights of modules, gates and classifier from.
HE = mx.init.Xavier(rnd_type='gaussian', factor_type='in', magnitude=2)


class AttendRectify(HybridBlock):
    """One attention module: class scores from the places of a feature map that its heads attend to (Sec. 3.2–3.4).

    With W_att, W_out and W_gate three 3×3 convolutions without bias, of K, K·L and K channels::

        mask_k = softmax over space of (W_att ∗ Z)_k                                       Eq. 1
        o_k    = Σ_space mask_k ⊙ (W_out ∗ Z)_k        (L scores)                          Eq. 2, 3
        gate   = softmax over k of tanh(Σ_space mask_k ⊙ (W_gate ∗ Z)_k)                   Eq. 5
        o      = Σ_k gate_k o_k                                                            Eq. 4

    What Eq. 3 and 5 sum is linear in Z, so the sum over space is taken first: every head averages Z around its
    mask, once for each of the nine taps, and W_out and W_gate meet that average instead of every place. The
    result is the same; the cost is 18·C·K·h·w multiplications instead of 9·C·K·(L+2)·h·w.

    :param in_channels: C, channels of the feature map.
    :param num_classes: L. (The paper's letters; elsewhere in this package classes are K.)
    :param heads: K, attention width (AW).
    :param mask: 'softmax', or 'sigmoid', each place in [0, 1]; Eq. 3 and 5 then average over space instead of adding
        up (Sec. 3.2), or scores would grow with the map.
    :param gates: False drops W_gate and averages the heads. (The released code then hands out the K outputs,
        each of which is averaged with those of the other modules after its own log-softmax.)

    Parameters, as the released code has them: ``attention_weight`` (K,C,3,3), ``output_weight`` (K·L,C,3,3) with
    channel k·L+l, ``gate_weight`` (K,C,3,3).

    Input: Z (N,C,h,w), h and w any, after its BN-ReLU. Outputs: scores (N,L), logits; masks (N,K,h,w), positive.
    Gradient flows through both outputs to Z and to all weights.

    :raises ValueError: for an unknown mask or sizes below 1.
    """

    def __init__(self, in_channels, num_classes, heads, mask='softmax', gates=True, **kwargs):
        super().__init__(**kwargs)
        if mask not in ('softmax', 'sigmoid'):
            raise ValueError(f"mask '{mask}' is not 'softmax' or 'sigmoid'")
        for name, value in (('in_channels', in_channels), ('num_classes', num_classes), ('heads', heads)):
            if value < 1:
                raise ValueError(f'{name} {value} is not at least 1')
        self.heads, self.num_classes, self.mask = heads, num_classes, mask
        with self.name_scope():
            for name, channels in (('attention_weight', heads), ('output_weight', heads * num_classes),
                                   *([('gate_weight', heads)] if gates else [])):
                setattr(self, name, self.params.get(name, shape=(channels, in_channels, KERNEL, KERNEL), init=HE))

    def hybrid_forward(self, F, features, attention_weight, output_weight, gate_weight=None):
        masks, outputs, gates = self._attend(F, features, attention_weight, output_weight, gate_weight)
        scores = F.mean(outputs, axis=0) if gates is None else F.sum(F.broadcast_mul(outputs, gates), axis=0)
        return scores, masks                                                              # (N,L), (N,K,h,w)

    def gate_values(self, features):
        """Return the gates of the heads (N,K) for the NDArray Z (N,C,h,w); without gates, their equal shares."""
        weights = {name: parameter.data(features.context) for name, parameter in self._reg_params.items()}
        masks, _, gates = self._attend(nd, features, **weights)
        if gates is None:
            return nd.full((features.shape[0], self.heads), 1 / self.heads, ctx=features.context)
        return gates.reshape((0, 0)).transpose()

    def _attend(self, F, features, attention_weight, output_weight, gate_weight=None):
        """Return masks (N,K,h,w), the heads' outputs (K,N,L) and their gates (K,N,1) or None."""
        logits = _convolution(F, features, attention_weight, self.heads)
        if self.mask == 'softmax':
            masks = F.reshape_like(F.softmax(F.reshape(logits, (0, 0, -3)), axis=2), logits)
        else:
            masks = F.sigmoid(logits)                                                     # (N,K,h,w)

        weights = masks if self.mask == 'softmax' else F.broadcast_div(masks, _places(F, masks))
        # The place q of Z is what tap (i,j) of a convolution meets at q - (i-1,j-1): masks are shifted, not Z.
        padded = F.pad(weights, **_BORDER)
        taps = F.stack(*(_window(F, padded, 2 - i, 2 - j) for i, j in _TAPS), axis=2)     # (N,K,9,h,w)
        attended = F.batch_dot(F.reshape(features, (0, 0, -3)), F.reshape(taps, (0, -3, -3)), transpose_b=True)
        attended = F.transpose(F.reshape(attended, (0, 0, -4, self.heads, KERNEL * KERNEL)), (2, 0, 1, 3))
        attended = F.reshape(attended, (0, 0, -3))                                        # (K,N,9C), as W is ordered

        outputs = F.batch_dot(attended, F.reshape(output_weight, (self.heads, self.num_classes, -1)),
                              transpose_b=True)                                           # (K,N,L)
        if gate_weight is None:
            return masks, outputs, None
        confidences = F.batch_dot(attended, F.reshape(gate_weight, (self.heads, 1, -1)), transpose_b=True)
        return masks, outputs, F.softmax(F.tanh(confidences), axis=0)                     # (K,N,1)


def _places(F, maps):
    """Return h·w of ``maps`` (N,K,h,w), (1,1,1,1)."""
    height, width = (F.max(F.contrib.arange_like(maps, axis=axis), axis=0, keepdims=True) + 1 for axis in (2, 3))
    return F.reshape(height * width, (1, 1, 1, 1))


def _convolution(F, x, weight, channels):
    """Return the 3×3 convolution of few ``channels`` without bias, stride 1, padding 1.

    MKLDNN computes at least 16 channels at a time. One 1×1 convolution gives what all nine taps contribute, which
    are then moved to their places and added: three times as fast for four channels, and forward and backward alike.
    """
    weight = F.transpose(F.reshape(weight, (0, 0, -3)), (2, 0, 1))                        # (9,K,C)
    products = F.Convolution(x, F.reshape(weight, (-3, 0, 1, 1)), kernel=(1, 1), num_filter=len(_TAPS) * channels,
                             no_bias=True)                                                # (N,9K,h,w)
    padded = F.pad(products, **_BORDER)
    return F.add_n(*(_window(F, padded, i, j, tap * channels, (tap + 1) * channels)
                     for tap, (i, j) in enumerate(_TAPS)))


def _window(F, padded, top, left, first=None, last=None):
    """Cut (N,·,h,w) out of maps with a border of 1; ``top`` and ``left`` are 0 to 2, (1, 1) is the middle.

    ``slice`` is safe here, and a fifth faster than ``slice_axis`` by axes: ``pad`` writes plain memory, see
    :func:`.channels.channel`.
    """
    return F.slice(padded, begin=(None, first, top, left), end=(None, last, top - 2 or None, left - 2 or None))


class GlobalGates(HybridBlock):
    """Weights of the modules' outputs and of the classifier's, from the last feature map (Sec. 3.5, Eq. 6, 7).

    GAP → linear without bias → BatchNorm → tanh → softmax over the outputs. Paper and released code differ: Eq. 6
    has no BatchNorm.

    :param in_units: C, channels of the last feature map.
    :param outputs: how many outputs are weighed: AD + 1.
    :param activation: 'softmax', or 'sigmoid' divided by its sum (plus 1e-6).
    :param norm: the BatchNorm.

    Input: the last map (N,C,h,w), or its global average (N,C). Output: gates (N,outputs), positive, with a sum
    of one. Gradient flows everywhere.

    :raises ValueError: for an unknown activation.
    """

    def __init__(self, in_units, outputs, activation='softmax', norm=True, **kwargs):
        super().__init__(**kwargs)
        if activation not in ('softmax', 'sigmoid'):
            raise ValueError(f"activation '{activation}' is not 'softmax' or 'sigmoid'")
        self.activation = activation
        with self.name_scope():
            self.gates = nn.Dense(outputs, in_units=in_units, use_bias=False, weight_initializer=HE)
            self.norm = VectorBatchNorm(in_channels=outputs) if norm else None

    def hybrid_forward(self, F, features):
        confidences = self.gates(F.mean(F.reshape(features, (0, 0, -1)), axis=2))
        if self.norm:
            confidences = self.norm(confidences)
        confidences = F.tanh(confidences)
        if self.activation == 'softmax':
            return F.softmax(confidences, axis=1)
        shares = F.sigmoid(confidences)
        return F.broadcast_div(shares, F.sum(shares, axis=1, keepdims=True) + 1e-6)


def combine(F, outputs, gates, space):
    """Return the scores (N,L) that several ``outputs``, each logits (N,L), make together (Eq. 8).

    :param gates: (N, number of outputs), with a sum of one; None is the mean.
    :param space: what is averaged. 'log_probs': Σ g log p, unnormalised logarithms of a probability (their
        exponentials add up to one at most), as in the released code. 'logits': Σ g logits. 'probs': log Σ g p.

    ``softmax`` of the result is a probability in each case: for 'log_probs' the normalised geometric mean.
    """
    stacked = F.stack(*outputs, axis=1)                                                   # (N,M,L)
    if space != 'logits':
        stacked = F.log_softmax(stacked, axis=2)
    if space == 'probs':
        # log Σ exp(log g + log p), with the largest term taken out.
        weighted = stacked if gates is None else F.broadcast_add(stacked, F.expand_dims(F.log(gates), 2))
        largest = F.BlockGrad(F.max(weighted, axis=1, keepdims=True))
        total = F.exp(F.broadcast_sub(weighted, largest))
        total = F.mean(total, axis=1) if gates is None else F.sum(total, axis=1)
        return F.log(total) + F.reshape(largest, (0, -3))
    if gates is None:
        return F.mean(stacked, axis=1)
    return F.sum(F.broadcast_mul(stacked, F.expand_dims(gates, 2)), axis=1)


def mask_overlap(masks):
    """Return how much the heads of a module attend to the same places, (1,); the regulariser of Sec. 3.2.

    Masks (N,K,h,w) are averaged over 2×2 cells (a last odd row or column is left out; maps of one row or column
    are taken as they are), and the squared inner products of different heads are averaged over N·K·K. Softmax
    masks sum to one, which makes that a few millionths. Gradient flows to the masks.
    """
    heads, height, width = masks.shape[1:]
    if min(height, width) > 1:
        masks = nd.Pooling(masks, kernel=(2, 2), stride=(2, 2), pool_type='avg')
    flat = masks.reshape((0, 0, -1))
    products = nd.batch_dot(flat, flat, transpose_b=True)                                 # (N,K,K)
    others = 1 - nd.eye(heads, ctx=masks.context, dtype=masks.dtype)
    return ((products * others.expand_dims(0)) ** 2).mean().reshape((1,))
