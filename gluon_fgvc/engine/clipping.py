"""Clipping by the global norm: a step too large is made shorter, its direction kept (Pascanu et al., ICML 2013)."""
from mxnet import nd


def clip_by_global_norm(trainer, images, bound):
    """Scale the gradients of ``trainer``, summed over all devices: the norm of all together is then at most ``bound``.

    Only gradients that the last backward passes have written count. Nothing waits: norm and factor stay on the devices.

    :param images: by what the update divides the gradients: the bound is on the gradient of the mean loss.
    """
    trainer.allreduce_grads()
    for device, _ in enumerate(trainer._contexts):
        gradients = [parameter.list_grad()[device] for parameter in trainer._params
                     if parameter.grad_req != 'null' and parameter.list_data()[device]._fresh_grad]
        if gradients:
            norm = nd.multi_sum_sq(*gradients, num_arrays=len(gradients)).sum().sqrt() / images
            factor = nd.minimum(bound / (norm + 1e-12), 1)
            for gradient in gradients:
                gradient *= factor
