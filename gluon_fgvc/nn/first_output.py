"""The deployed view of a network that returns more in training than scores."""
import warnings

from mxnet.gluon import HybridBlock


class FirstOutput(HybridBlock):
    """Returns the first output of ``net``, with ``net``'s children under the same structural names.

    :param net: HybridBlock of one input without parameters of its own (its children may have any); its
        ``hybrid_forward`` returns a list or tuple. What only the other outputs need is not computed once compiled.
    """

    def __init__(self, net, **kwargs):
        super().__init__(**kwargs)
        for name, child in net._children.items():
            self.register_child(child, name)
        self._outputs = net.hybrid_forward

    def _build_cache(self, *args):
        with warnings.catch_warnings():  # of children that only the other outputs need, which is what this block is for
            warnings.filterwarnings('ignore', 'Parameter .* is not used by any computation')
            super()._build_cache(*args)

    def hybrid_forward(self, F, x):
        return self._outputs(F, x)[0]
