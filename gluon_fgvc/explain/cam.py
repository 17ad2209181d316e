"""Class activation at the size of the images, and how much of it lies in boxes."""
import cv2
import numpy as np
from mxnet import autograd, nd

from gluon_fgvc.nn import class_activation


def activation_on_images(method, images, classes=None):
    """Return what speaks for a class, where it lies in the images: (N,H,W) float32, non-negative.

    CAM for networks with a linear layer on the averaged map, Grad-CAM for others (see
    :func:`~gluon_fgvc.nn.class_activation`), enlarged bilinearly (cell centres stay where they are), negative values
    set to 0. Where the backbone of the deployed network sees the image resampled, each value goes to the pixels that
    it was sampled from; what comes from beyond the image is lost.

    :param method: a :class:`~gluon_fgvc.methods.base.Method`.
    :param images: (N,3,H,W), normalised.
    :param classes: (N,) class indices; None takes the predicted ones.
    """
    classes = classes if classes is None else nd.array(classes, ctx=images.context)
    maps, size = class_activation(method.net, images, classes).asnumpy(), images.shape[2:]
    explanation = method.explain(images)
    if explanation.seen_through is None:
        return _enlarged(maps, size)
    grid = explanation.grids[explanation.seen_through]
    values = nd.array(_enlarged(maps, grid.shape[2:]), ctx=images.context).expand_dims(axis=1)
    # Bilinear sampling reads pixels with weights; its gradient puts values back with the same weights.
    canvas = nd.zeros((len(images), 1, *size), ctx=images.context)
    canvas.attach_grad()
    with autograd.record():
        sampled = nd.BilinearSampler(canvas, grid)
    sampled.backward(values)
    return canvas.grad[:, 0].asnumpy()


def _enlarged(maps, size):
    height, width = size
    return np.stack([np.maximum(cv2.resize(values, (width, height), interpolation=cv2.INTER_LINEAR), 0)
                     for values in maps])


def coverage(box, size):
    """Return which fraction of each pixel lies in ``box`` (x, y, width, height): float64 of shape ``size``."""
    x, y, width, height = box
    rows, columns = (np.clip(np.minimum(end, np.arange(pixels) + 1) - np.maximum(start, np.arange(pixels)), 0, 1)
                     for start, end, pixels in ((y, y + height, size[0]), (x, x + width, size[1])))
    return rows[:, None] * columns


def energy_inside(values, box):
    """Return which fraction of the sum of ``values`` (H,W), non-negative, lies in ``box``; NaN where the sum is 0.

    :param box: x, y, width, height in pixels; a pixel on its edge counts in part.
    """
    total = values.sum(dtype='float64')
    return float((values * coverage(box, values.shape)).sum() / total) if total else float('nan')
