"""Two images in one, and their labels in the same shares: mixup and CutMix, one or the other for a whole batch."""
import math

from mxnet import nd


def mix(images, targets, settings, generator):
    """Mix ``images`` (N,C,H,W) and ``targets`` (N,K) as ``settings``, the section ``train``, says; return both.

    Partners are a random permutation of the batch. Where both ways are on, ``cutmix_share`` of the batches get CutMix.

    :param generator: of numpy; all that is random is drawn from it.
    """
    if settings.mixup and settings.cutmix:
        cuts = generator.random() < settings.cutmix_share
    else:
        cuts = bool(settings.cutmix)
    way, alpha = (cutmix, settings.cutmix) if cuts else (mixup, settings.mixup)
    return way(images, targets, alpha, generator)


def mixup(images, targets, alpha, generator):
    """Mixup (Zhang et al. 2018): convex combinations of images (N,…) and targets (N,K), λ ~ Beta(α, α).

    One λ for the batch; partners are a random permutation drawn from numpy ``generator``.
    """
    share = float(generator.beta(alpha, alpha))
    partners = nd.array(generator.permutation(images.shape[0]), ctx=images.context)
    return (share * images + (1 - share) * nd.take(images, partners),
            share * targets + (1 - share) * nd.take(targets, partners))


def cutmix(images, targets, alpha, generator):
    """CutMix (Yun et al., ICCV 2019): a rectangle of the partner, of the image's aspect and 1 − λ of its area.

    λ ~ Beta(α, α) and the centre, which is uniform, are those of the whole batch. What lies outside of the image is cut
    off, and the labels have the shares of the areas that are then left.
    """
    share = float(generator.beta(alpha, alpha))
    partners = nd.array(generator.permutation(images.shape[0]), ctx=images.context)
    edges, area = [], 1.0
    for side in images.shape[2:]:
        length = round(side * math.sqrt(1 - share))
        low = int(generator.integers(side)) - length // 2
        edges.append((max(low, 0), min(low + length, side)))
        area *= (edges[-1][1] - edges[-1][0]) / side
    if area:
        (top, bottom), (left, right) = edges
        mixed = images.copy()
        mixed[:, :, top:bottom, left:right] = nd.take(images, partners)[:, :, top:bottom, left:right]
        images = mixed
    return images, (1 - area) * targets + area * nd.take(targets, partners)
