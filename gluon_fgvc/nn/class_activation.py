"""Class activation maps of any network that has a backbone (Zhou et al., CVPR 2016; Selvaraju et al., ICCV 2017)."""
import warnings

from mxnet import autograd, nd

from gluon_fgvc.nn.as_in_prediction import as_in_prediction


def class_activation(net, images, classes=None):
    """Return how much each place of the last feature map F speaks for a class: Σ_c g_c F_c (N,h,w), of either sign.

    g_c is the gradient of the class score with respect to F_c, summed over places. Where the score is a linear layer
    on the averaged map, g_c is the layer's weight w_kc, and this is Zhou's class activation map (CAM); for any other
    network it is Grad-CAM, times the number of places and before its ReLU.

    :param net: HybridBlock images → scores (N,K) with a child ``body``, a Backbone, and no parameters of its own. It
        may be compiled; it need not call the body as a whole, as long as it uses the last of its stages.
    :param images: (N,3,H,W), normalised.
    :param classes: (N,) class indices; None takes the class of the highest score.

    BatchNorm and dropout are as in prediction. Gradients stored in the parameters behind F are overwritten.
    """
    maps = []

    def keep(_, __, output):
        if isinstance(output, nd.NDArray):  # not while a graph is being traced
            output.attach_grad()            # F is where differentiation ends
            maps.append(output)

    # A compiled body does not call its stages, and a net may call the stages but not the body: the later one counts.
    body = net._children['body']
    hooks = [block.register_forward_hook(keep) for block in (getattr(body, body.stage_names[-1]), body)]
    try:
        with as_in_prediction(net), autograd.record(), warnings.catch_warnings():
            # Of a body compiled by itself, whose pool has parameters.
            warnings.filterwarnings('ignore', 'Parameter .* is not used by any computation')
            scores = net.hybrid_forward(nd, images)  # a compiled net would not call the body either
            score = scores.max(axis=1) if classes is None else nd.pick(scores, classes, axis=1)
    finally:
        for hook in hooks:
            hook.detach()
    score.backward()
    weights = maps[-1].grad.sum(axis=(2, 3), keepdims=True)                       # (N,C,1,1)
    return (maps[-1].detach() * weights).sum(axis=1)                              # (N,h,w)
