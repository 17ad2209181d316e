"""Loss terms on NDArrays; each returns one value an image, (N,), or a pair of images, (P,)."""
import math

from mxnet import nd

TINY = 1e-12  # beneath square roots, whose gradient at 0 would be NaN


def distillation(student, teacher, temperature=10.0, detach_teacher=False):
    """Soft-target cross-entropy D = -Σ_k softmax(teacher/T)_k · log softmax(student/T)_k.

    Zheng et al., CVPR 2019 (TASN), Eq. 6 and 7, after Hinton et al. 2015, without the latter's factor T².

    :param student, teacher: scores (N,K).
    :param temperature: T, above 0.
    :param detach_teacher: whether the gradient to ``teacher`` is blocked; the released code of TASN lets it flow.
    :returns: (N,), at least the entropy of the teacher's distribution.
    """
    if detach_teacher:
        teacher = teacher.detach()
    return -(nd.softmax(teacher / temperature) * nd.log_softmax(student / temperature)).sum(axis=1)


def restriction_loss(parameters, expected=(0, 0, 0.5, 0), thresholds=(0.4, 0.4, 0.4, math.pi)):
    """Return how far the windows lie outside of what is tolerated: sqrt(Σ_i [|γ_i - e_i| > t_i] (γ_i - e_i)²).

    CRA-CNN (BMVC 2020), Eq. 7. The paper's bracket z⁺/(z + ε) with z = |γ_i - e_i| - t_i is this indicator, up to ε;
    the bracket itself has the gradient NaN where all z are negative, the normal state. So near the threshold the loss
    jumps from 0 to t_i, and its gradient there pulls at the distance from e_i alone.

    :param parameters: Γ_res (N,4): x, y, scale, angle in radians.
    :param expected, thresholds: E and T, four numbers each.
    :returns: (N,), at least 1e-6. Gradient flows to ``parameters``; it is 0 within all thresholds.
    """
    difference = parameters - nd.array([expected], ctx=parameters.context, dtype=parameters.dtype)
    outside = difference.abs() > nd.array([thresholds], ctx=parameters.context, dtype=parameters.dtype)
    return ((outside * difference ** 2).sum(axis=1) + TINY).sqrt()


def contrastive_loss(redundancy, attention, first, second, margin=0.7):
    """Return the triplet loss of pairs of images, for r and r' of images i = first[p] and j = second[p] each.

    max(d(r_i, r_j) - d(r_i, a_i) + m, 0) + max(d(r_i, r_j) - d(r_j, a_j) + m, 0), d(x, y) = sqrt(|x - y|² + 1e-12):
    CRA-CNN (BMVC 2020), Eq. 8. What is redundant shall look alike in different images and unlike each one's attention.
    The released code squares the distances.

    :param redundancy, attention: deep features (N,D) of the two parts of each image.
    :param first, second: indices (P,) of the images of each pair, P at least 1; NDArrays.
    :param margin: m, in units of the features.
    :returns: (P,). Gradient flows to both features; it is finite, 0 from d, where two features are equal.
    """
    def distance(x, y):
        return (((x - y) ** 2).sum(axis=1) + TINY).sqrt()

    own = distance(redundancy, attention)                                     # (N,)
    between = distance(redundancy.take(first), redundancy.take(second))       # (P,)
    return sum(nd.relu(between - own.take(index) + margin) for index in (first, second))
