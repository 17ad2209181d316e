"""Adam with decoupled weight decay: Loshchilov and Hutter, ICLR 2019, Algorithm 2, with the schedule in the rate."""
import math

from mxnet import nd
from mxnet.optimizer import Optimizer


class AdamW(Optimizer):
    """``w ← (1 − η wd) w − η m̂ / (√v̂ + ε')``, with Adam's bias-corrected moments m̂ and v̂ of the gradient alone.

    MXNet's own Adam adds wd · w to the gradient, where it is divided by √v̂ as well. As there, ε is added to √v before
    its bias is corrected, so ε' = ε / √(1 − β₂ᵗ).
    """

    def __init__(self, learning_rate=0.001, beta1=0.9, beta2=0.999, epsilon=1e-8, **kwargs):
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.beta1, self.beta2, self.epsilon = beta1, beta2, epsilon

    def create_state(self, index, weight):
        """Return the two moments, zero, of the shape of ``weight``."""
        return nd.zeros_like(weight), nd.zeros_like(weight)

    def update(self, index, weight, grad, state):
        """Move ``weight``; called by the Trainer, for one parameter on one device."""
        self._update_count(index)
        rate, decay, count = self._get_lr(index), self._get_wd(index), self._index_update_count[index]
        if decay:
            weight *= 1 - rate * decay
        rate *= math.sqrt(1 - self.beta2 ** count) / (1 - self.beta1 ** count)
        mean, variance = state
        nd.adam_update(weight, grad, mean, variance, out=weight, lr=rate, wd=0.0, beta1=self.beta1, beta2=self.beta2,
                       epsilon=self.epsilon, rescale_grad=self.rescale_grad,
                       clip_gradient=-1.0 if self.clip_gradient is None else self.clip_gradient)
