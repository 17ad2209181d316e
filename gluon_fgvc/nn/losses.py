"""Loss terms on NDArrays; each returns one value an image, (N,)."""
from mxnet import nd


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
