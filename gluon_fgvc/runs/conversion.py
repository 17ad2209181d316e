"""The formats besides the symbol in which a run's network leaves, made with images of the run."""
from typing import NamedTuple

import numpy as np

from gluon_fgvc import data
from gluon_fgvc.deploy import formats
from gluon_fgvc.deploy.metadata import Metadata
from gluon_fgvc.errors import CheckFailed, DataError
from gluon_fgvc.machine import processor

CALIBRATION = 64   # training images whose activations give the ranges of int8
COMPARED = 16      # of them, on which layers are compared
JUDGED = 500       # images by which the loss is judged


class Int8(NamedTuple):
    """How int8 is made.

    ``loss``, the largest loss of accuracy in points; ``reduced_range``, weights of 7 bits; ``calibration``, one of
    ``choices.CALIBRATIONS``.
    """

    loss: float = 1.0
    reduced_range: bool = False
    calibration: str = 'minmax'


class Sample(NamedTuple):
    """Prepared images, uint8 (N,H,W,3), and their labels (N,), of one split."""

    split: str
    images: np.ndarray
    labels: np.ndarray


def convert(run, folder, names, images, int8=None, say=print):
    """Write the formats ``names`` (see ``choices.FORMATS``) beside the symbol in ``folder``.

    :param images: real images to compare on.
    :param say: called with each line about what was made.
    :raises CheckFailed: if one differs by more than it may; the formats before it have been written.
    """
    others = [name for name in names if name != 'int8']
    for name, entry in formats.write(folder, images, others).items() if others else ():
        say(f"{formats.FILES[name]}: largest difference of a probability {entry['difference']:.3g} on {len(images)} "
            f"real images, {entry['bytes']:,} bytes")
    if 'int8' in names:
        say(_write_int8(run, folder, int8 or Int8()))


def judging_sample(run, most=JUDGED):
    """Return the :class:`Sample` that formats are judged by: validation images, or test images where there are none."""
    return sample(run, 'test' if run.source.val is None else 'val', most)


def sample(run, split, most):
    """Return up to ``most`` images of a split, spread over it, without those of another size or that cannot be read.

    :raises DataError: if that leaves none.
    """
    image_set, transform = getattr(run.source, split), data.EvalTransform(run.cfg.data.eval)
    images, labels = [], []
    for i in np.unique(np.linspace(0, len(image_set) - 1, most).astype(int)):
        try:
            image = transform(image_set.read(i), None)
        except DataError:
            continue
        if not images or image.shape == images[0].shape:
            images.append(image)
            labels.append(image_set.labels[i])
    if not images:
        raise DataError(f"split '{split}': no image can be read")
    return Sample(split, np.stack(images), np.array(labels))


def probabilities(model, images, batch_size=16):
    """Return (N,K) of ``images`` by a callable."""
    return np.concatenate([model(images[i:i + batch_size]) for i in range(0, len(images), batch_size)])


def _write_int8(run, folder, options):
    formats.require()
    from gluon_fgvc.deploy.onnx import conversion
    from gluon_fgvc.deploy.onnx.quantization import Quantizer, search
    from gluon_fgvc.deploy.onnx.runtime import OnnxModel
    metadata, judged = Metadata.read(folder), judging_sample(run)
    calibration = sample(run, 'train', CALIBRATION).images
    model = conversion.model_of(folder, metadata)
    expected = _accuracy(OnnxModel(model, metadata), judged)

    def accepts(candidate):
        loss = 100 * (expected - _accuracy(OnnxModel(candidate, metadata), judged))
        return loss <= options.loss, loss

    quantizer = Quantizer(model, metadata, list(calibration), options.reduced_range, options.calibration)
    made, in_float, loss = search(quantizer, calibration[:COMPARED], accepts)
    layers = len(quantizer.layers)
    where = f'{len(judged.labels)} images of the {judged.split} split'
    if made is None:
        raise CheckFailed(f'int8 loses {loss:.2f} points of accuracy on {where} with {len(in_float)} of '
                          f"{layers} layers in float32; allowed is {options.loss:g} (--int8-loss); "
                          f"'{formats.FILES['int8']}' was not written")
    entry = formats.save(folder, 'int8', made, {
        'opset': made.opset_import[0].version, 'loss_points': loss, 'judged_on': {'split': judged.split,
                                                                                 'images': len(judged.labels)},
        'layers': layers, 'in_float': in_float, 'reduced_range': options.reduced_range,
        'calibrated_on': len(calibration), 'calibration': options.calibration})
    return (f"{formats.FILES['int8']}: accuracy {-loss:+.2f} points on {where}, {len(in_float)} of "
            f"{layers} layers in float32, {entry['bytes']:,} bytes")


def _accuracy(model, judged):
    return float((probabilities(model, judged.images).argmax(axis=1) == judged.labels).mean())


def has_vnni():
    """Whether this processor multiplies 8-bit numbers without saturating at 16 bits."""
    return bool({'avx512_vnni', 'avx_vnni'} & set(processor.instruction_sets()))
