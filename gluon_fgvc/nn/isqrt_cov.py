"""Second-order pooling: the matrix square root of the channels' covariance, by Newton-Schulz iteration (iSQRT-COV).

Li et al., "Towards Faster Training of Global Covariance Pooling Networks by Iterative Matrix Square Root
Normalization", CVPR 2018.
"""
import numpy as np
from mxnet import nd
from mxnet.gluon import HybridBlock, nn


class ISQRTCov(HybridBlock):
    """A map becomes the upper triangle of the square root of its channels' covariance.

    1x1 convolution to ``dim`` channels (no bias), BatchNorm, ReLU; covariance Σ over the places; A = Σ / tr Σ;
    ``iters`` Newton-Schulz iterations towards √A (Sec. 3.2, Eq. 4 and 5); times √(tr Σ). Only matrix products, so
    forward and backward are fast and stable. Five iterations are no exact root: for small eigenvalues of A the
    iteration is still on its way.

    :param dim: channels whose covariance is taken; the vector has dim·(dim+1)/2 numbers.
    :param iters: Newton-Schulz iterations, at least 2.
    :param in_channels: C; 0 leaves it to the first forward pass.

    Input: map (N,C,h,w). Output: (N, dim·(dim+1)/2), row by row of the lower triangle, which is the upper one column
    by column. Attribute ``units`` is its length. Gradient flows everywhere and is finite, of rank-deficient and
    all-zero features as well.

    :raises ValueError: for ``dim`` below 1 or ``iters`` below 2.
    """

    def __init__(self, dim=256, iters=5, in_channels=0, **kwargs):
        super().__init__(**kwargs)
        if dim < 1 or iters < 2:
            raise ValueError(f'dim {dim} must be at least 1 and iters {iters} at least 2')
        self.units = dim * (dim + 1) // 2
        with self.name_scope():
            self.conv = nn.Conv2D(dim, 1, use_bias=False, in_channels=in_channels)
            self.bn = nn.BatchNorm(in_channels=dim)
            self.root = CovarianceRoot(dim, iters)

    def hybrid_forward(self, F, x):
        return F.linalg.extracttrian(self.root(F.relu(self.bn(self.conv(x)))))  # (N, dim·(dim+1)/2)


class CovarianceRoot(HybridBlock):
    """Approximate √Σ of a map's channels: what :class:`ISQRTCov` does between its ReLU and its triangle.

    :param channels: C.
    :param iters: Newton-Schulz iterations.

    Input: map (N,C,h,w). Output: symmetric matrices (N,C,C).
    """

    _EPSILON = 1e-10  # added to tr Σ: all-zero features give zeros and no infinite gradient

    def __init__(self, channels, iters, **kwargs):
        super().__init__(**kwargs)
        self._iters = iters
        with self.name_scope():
            self.identity = self.params.get_constant('identity', nd.array(np.eye(channels)[None]))

    def hybrid_forward(self, F, x, identity):
        x = F.reshape(x, (0, 0, -1))                                              # (N,C,M)
        x = F.broadcast_sub(x, F.mean(x, axis=2, keepdims=True))
        squares = F.sum(F.square(x), axis=1, keepdims=True)                       # (N,1,M)
        trace = F.mean(squares, axis=2, keepdims=True) + self._EPSILON            # (N,1,1): tr Σ
        total = F.sum(squares, axis=2, keepdims=True) + self._EPSILON             # M·tr Σ
        a = F.broadcast_div(F.batch_dot(x, x, transpose_b=True), total)           # (N,C,C)
        root = self._newton_schulz(F, a, identity)
        return F.broadcast_mul(root, F.sqrt(trace))

    def _newton_schulz(self, F, a, identity):
        """Return about √a; Y → √a and Z → 1/√a, of which the last iteration needs Y only."""
        def half_of_three_less(product):
            return 0.5 * F.broadcast_sub(3 * identity, product)

        z = half_of_three_less(a)
        y = F.batch_dot(a, z)
        for _ in range(self._iters - 2):
            t = half_of_three_less(F.batch_dot(z, y))
            y, z = F.batch_dot(y, t), F.batch_dot(t, z)
        return F.batch_dot(y, half_of_three_less(F.batch_dot(z, y)))
