"""Trilinear attention: feature maps weighted by how alike their channels are (TASN).

Zheng et al., "Looking for the Devil in the Details: Learning Trilinear Attention Sampling Network for
Fine-grained Image Recognition", CVPR 2019, Sec. 3.1 and Table 2.
"""
from mxnet.gluon import HybridBlock

NORMALISATIONS = ('X', 'XXTX', 'N(X)XTX', 'N(X)N(X)TX', 'N(XXTX)', 'N(XXT)X', 'N(N(X)XT)X', 'XTX')
CHOICES = ('random', 'ranked')


class TrilinearAttention(HybridBlock):
    """One attention map for each channel: M = N(N(X)·Xᵀ)·X, X the features as C × hw, N softmax (Eq. 2).

    :param normalisation: a row of Table 2 with T for the transpose: 'X', 'XXTX' (Eq. 1), 'N(X)XTX', 'N(X)N(X)TX',
        'N(XXTX)', 'N(XXT)X' or 'N(N(X)XT)X'; or 'XTX', self-attention: one map for each place, of its likeness to
        all places.
    :param scale: factor on X inside the softmax over places, N(scale·X), and nowhere else. The released code has 7,
        the paper does not mention it.

    Input: features (N,C,h,w), non-negative. Output: maps (N,C,h,w), of 'XTX' (N,hw,h,w); non-negative. No gradient
    flows back, as in the released code: what computes the features learns from a classifier of its own.

    :raises ValueError: for another normalisation.
    """

    def __init__(self, normalisation='N(N(X)XT)X', scale=7.0, **kwargs):
        super().__init__(**kwargs)
        if normalisation not in NORMALISATIONS:
            raise ValueError(f"normalisation '{normalisation}' is none of {', '.join(NORMALISATIONS)}")
        self._normalisation, self._scale = normalisation, scale

    def hybrid_forward(self, F, features):
        features = F.BlockGrad(features)
        x = F.reshape(features, (0, 0, -1))                                  # (N,C,hw)
        if self._normalisation == 'XTX':
            maps = F.batch_dot(x, x, transpose_a=True)                       # (N,hw,hw)
            return F.reshape_like(maps, features, lhs_begin=2, lhs_end=3, rhs_begin=2, rhs_end=4)
        return F.reshape_like(self._maps(F, x), features)

    def _maps(self, F, x):
        def normalised():
            return F.softmax(self._scale * x, axis=-1)

        def alike(a, b):
            return F.batch_dot(a, b, transpose_b=True)                       # (N,C,C)

        if self._normalisation == 'X':
            return x
        if self._normalisation == 'XXTX':
            return F.batch_dot(alike(x, x), x)
        if self._normalisation == 'N(X)XTX':
            return F.batch_dot(alike(normalised(), x), x)
        if self._normalisation == 'N(X)N(X)TX':
            return F.batch_dot(alike(normalised(), normalised()), x)
        if self._normalisation == 'N(XXTX)':
            return F.softmax(F.batch_dot(alike(x, x), x), axis=-1)
        if self._normalisation == 'N(XXT)X':
            return F.batch_dot(F.softmax(alike(x, x), axis=-1), x)
        return F.batch_dot(F.softmax(alike(normalised(), x), axis=-1), x)


class StructureMap(HybridBlock):
    """The mean of all attention maps, A(M) of Eq. 3: it keeps every part in view.

    :param square: square the mean, which sharpens it, at the map's own resolution. (The released code squares after
        enlarging the map to the image; :class:`~gluon_fgvc.nn.AttentionSampler` has an option for that.)

    Input: maps (N,C,h,w). Output: (N,1,h,w).
    """

    def __init__(self, square=False, **kwargs):
        super().__init__(**kwargs)
        self._square = square

    def hybrid_forward(self, F, maps):
        mean = F.mean(maps, axis=1, keepdims=True)
        return F.square(mean) if self._square else mean


class DetailMap(HybridBlock):
    """One randomly chosen attention map for each image, R(M) of Eq. 3; random at every call, also outside training.

    The random numbers are MXNet's: ``mx.random.seed`` makes the choice repeatable.

    :param choice: 'random' takes every channel with the same probability; 'ranked' takes the channel of the i-th
        lowest mean of C with a probability in proportion to i (Sec. 4.2: 0.2 points worse). The paper does not say
        how ranks became probabilities, and the released code, which chooses among channels that a defect drops in
        part, has no ranked choice.

    Input: maps (N,C,h,w). Output: (N,1,h,w).

    :raises ValueError: for another choice.
    """

    def __init__(self, choice='random', **kwargs):
        super().__init__(**kwargs)
        if choice not in CHOICES:
            raise ValueError(f"choice '{choice}' is none of {', '.join(CHOICES)}")
        self._choice = choice

    def hybrid_forward(self, F, maps):
        response = F.mean(maps, axis=(2, 3))                                 # (N,C)
        # log u has the distribution of -E, E exponential, and the smallest E_i / w_i is that of i with
        # probability w_i / Σ w (Efraimidis and Spirakis 2006).
        keys = F.log(1 - F.random.uniform_like(response))
        if self._choice == 'ranked':
            ranks = F.argsort(F.argsort(response, axis=1), axis=1) + 1       # of the highest response: C
            keys = F.broadcast_div(keys, ranks)
        chosen = F.expand_dims(F.topk(keys, axis=1, k=1, ret_typ='mask'), 1)  # (N,1,C), a single 1 in each row
        detail = F.batch_dot(chosen, F.reshape(maps, (0, 0, -1)))            # (N,1,hw)
        return F.reshape_like(detail, F.slice_axis(maps, axis=1, begin=0, end=1))
