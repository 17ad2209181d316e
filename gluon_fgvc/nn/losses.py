"""Loss terms on NDArrays: one value an image, (N,), or a pair of images, (P,), or a penalty of the batch, (1,)."""
import math

from mxnet import nd

TINY = 1e-12  # beneath square roots, whose gradient at 0 would be NaN
PENALTIES = ('l1', 'l1_mean', 'l2', 'diverge', 'diverge_l1', 'diverge_l2')
BOUNDED = ('diverge', 'diverge_l1', 'diverge_l2')  # those that have no lower bound of their own


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


def attention_penalty(attentions, kind='diverge', ceiling=None):
    """Return the penalty (1,) of attention weights, not yet multiplied by λ.

    a_j is the attention vector of filter j, of all layers; ℓ in the paper's Eq. 1 to 4:

    ============  ====================================  ==========================================
    ``l1``        Σ_j ‖a_j‖₁                             Eq. 1
    ``l1_mean``   the same by the number of weights      what the released scripts compute
    ``l2``        Σ_j ‖a_j‖₂                             Eq. 2; no gradient to a filter that is 0
    ``diverge``   −Σ_layers mean((a − 1)²)               what the released scripts compute for Eq. 3
    ``diverge_l1``  −Σ_j ‖a_j − 1‖₁²                     Eq. 3 as printed
    ``diverge_l2``  −Σ_j ‖a_j − 1‖₂²                     Eq. 3 with the Euclidean norm
    ============  ====================================  ==========================================

    :param attentions: list of arrays (O,I,1,1), one a layer, on one device; I is 1 in the 'out' form.
    :param ceiling: for the ``diverge`` kinds, which have no lower bound: once the penalty is at -ceiling it stays
        there, and no gradient flows.

    Gradient flows to all ``attentions``.

    :raises ValueError: for an unknown kind, or a ceiling that is not above 0 or of a kind that has none.
    """
    if kind not in PENALTIES:
        raise ValueError(f"penalty '{kind}' is none of {', '.join(PENALTIES)}")
    if ceiling is not None and (kind not in BOUNDED or not ceiling > 0):
        raise ValueError(f"ceiling {ceiling} must be above 0 and goes with {', '.join(BOUNDED)}, not with '{kind}'")
    penalty = nd.add_n(*(_LAYER[kind](attention.reshape((attention.shape[0], -1))) for attention in attentions))
    if kind == 'l1_mean':
        penalty = penalty / sum(attention.size for attention in attentions)
    return penalty if ceiling is None else nd.maximum(penalty, -ceiling)


def _sum_of_squares(values):
    values = values.reshape((-1,))
    return nd.dot(values, values)  # (1,), in half the time of square().sum()


_LAYER = {  # (filters, inputs) → (1,)
    'l1': lambda a: a.abs().sum(),
    'l1_mean': lambda a: a.abs().sum(),
    # The root has an infinite slope at 0, where the subgradient 0 is taken.
    'l2': lambda a: nd.maximum(a.square().sum(axis=1), 1e-30).sqrt().sum(),
    'diverge': lambda a: -_sum_of_squares(a - 1) / a.size,
    'diverge_l1': lambda a: -(a - 1).abs().sum(axis=1).square().sum(),
    'diverge_l2': lambda a: -_sum_of_squares(a - 1),
}


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
