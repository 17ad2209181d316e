"""Class probabilities of new images, from an exported model or from a network at hand.

An exported model is a folder: ``model-symbol.json`` (the graph), ``model-0000.params`` (its parameters), where it was
asked for ``model.onnx``, and ``model.json``, which says how to prepare an image and what comes out, and holds the
sha256 of the others. Reading one needs NumPy, OpenCV or Pillow, and MXNet or, for ``model.onnx``, onnxruntime; not the
code that built the network. Export puts this program there too, as one file:

    python predictor.py IMAGE FOLDER 'more/*.jpg'

    from predictor import Predictor
    Predictor('.').top(['photo.jpg'], 3)
"""
import argparse
import json
import os
import sys
import threading
import warnings
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from gluon_fgvc.data.images import BrokenImage, Picture
from gluon_fgvc.data.search import find_images
from gluon_fgvc.data.transforms import EvalTransform
from gluon_fgvc.deploy.activation import ClassActivation, NoActivation
from gluon_fgvc.deploy.choice import choose
from gluon_fgvc.deploy.engines import ENGINES, NotUsable, OnnxEngine, open_engine, possible, probabilities
from gluon_fgvc.deploy.metadata import Metadata
from gluon_fgvc.errors import DataError, UserError
from gluon_fgvc.machine.processor import onednn_choice

CERTIFICATE = 'certificate.json'


class ImageClassifier:
    """Images in, class probabilities out; several threads may ask one.

    :param classes: names of the K classes.
    :param transform: uint8 RGB (H,W,3) → uint8 RGB, as for the test split.
    :param forward: uint8 (N,H,W,3) → float32 (N,K), class probabilities.
    :param batch_size: images that go through the network at once.
    :param threads: how many threads decode images ahead of the network; 1 decodes in turn with it.
    """

    engine = None  # the name of what runs an exported model

    def __init__(self, classes, transform, forward, batch_size=32, threads=1):
        self.classes, self.transform = tuple(classes), transform
        self.batch_size, self.threads = batch_size, threads
        self._forward, self._lock = forward, threading.Lock()

    def predict_batch(self, images):
        """Return the probabilities, float32 (N,K), of transformed images, uint8 (N,H,W,3).

        :raises DataError: for any other array.
        """
        _check_array(images, '(N,H,W,3)')
        with self._lock:
            return self._forward(images)

    def load(self, source):
        """Return the image that is ``source``, ready for :meth:`predict_batch`: uint8 RGB (H,W,3).

        :param source: a path, the bytes of an image file, a binary stream of them, or uint8 RGB (H,W,3).
        :raises DataError: naming the source, if it is none of these, cannot be read or is too small for the transform.
        """
        name = '(array)' if isinstance(source, np.ndarray) else source
        try:
            if isinstance(source, np.ndarray):
                image = _check_array(source, '(H,W,3)')
            elif isinstance(source, (str, os.PathLike)):
                image = Picture(source)
            elif isinstance(source, (bytes, bytearray, memoryview)):
                name, image = '(bytes)', Picture('(bytes)', bytes(source))
            elif hasattr(source, 'read'):
                name = str(getattr(source, 'name', '(bytes)'))
                image = Picture(name, source.read())
            else:
                raise DataError('an image is a path, the bytes of a file, a binary stream or an array uint8 RGB '
                                f'(H,W,3), not of type {type(source).__name__}')
            return self.transform(image, None)
        except BrokenImage:
            raise
        except DataError as error:
            raise DataError(f"cannot use image '{name}': {error}") from None

    def loaded(self, sources):
        """Yield what :meth:`load` returns of each of ``sources``, in order, decoded ahead where there are threads.

        :raises DataError: for one image in the place of several.
        """
        if isinstance(sources, (str, os.PathLike, bytes, bytearray, memoryview)) or hasattr(sources, 'read') or \
                getattr(sources, 'ndim', 4) == 3:
            raise DataError('give a list of images, be it of one: [image]')
        if self.threads == 1:
            yield from map(self.load, sources)
            return
        with ThreadPoolExecutor(self.threads) as pool:
            ahead = deque()
            for source in sources:
                ahead.append(pool.submit(self.load, source))
                if len(ahead) > 2 * self.threads:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()

    def predict(self, inputs):
        """Return the probabilities, float32 (N,K), of ``inputs``, each as :meth:`load` takes it.

        :raises DataError: naming an image that cannot be used.
        """
        found = dict(self.stream(enumerate(self.loaded(inputs))))
        return np.stack([found[i] for i in range(len(found))]) if found else np.zeros((0, len(self.classes)), 'float32')

    def top(self, inputs, count=5):
        """Return, for each of ``inputs``, its :func:`ranking` of ``count`` classes."""
        return [ranking(self.classes, row, count) for row in self.predict(inputs)]

    def stream(self, items):
        """Yield (key, probabilities (K,)) for each (key, image) of ``items``; images as :meth:`load` returns.

        Images are batched by their shape, so keys come back in another order. No more than four batches
        wait for company.
        """
        waiting = {}  # shape → [(key, image)]
        for key, image in items:
            waiting.setdefault(image.shape, []).append((key, image))
            if len(waiting[image.shape]) == self.batch_size:
                yield from self._predict_pairs(waiting.pop(image.shape))
            elif sum(map(len, waiting.values())) >= 4 * self.batch_size:
                yield from self._predict_pairs(waiting.pop(max(waiting, key=lambda shape: len(waiting[shape]))))
        for pairs in waiting.values():
            yield from self._predict_pairs(pairs)

    def _predict_pairs(self, pairs):
        keys, images = zip(*pairs)
        return zip(keys, self.predict_batch(np.stack(images)))


class Predictor(ImageClassifier):
    """An exported model, ready to classify.

    :param folder: what :func:`gluon_fgvc.deploy.export` wrote.
    :param ctx: an MXNet context; None is the CPU.
    :param engine: what runs the network: 'mxnet', 'mxnet_fused' or 'onnxruntime'; 'auto' takes the fastest here that
        computes the same, see :mod:`gluon_fgvc.deploy.choice`. Engines differ by rounding.
    :raises CheckpointError: for a missing, truncated, altered or foreign file.

    Attributes: ``metadata``, its :class:`~gluon_fgvc.deploy.metadata.Metadata`; ``engine``, the name of what runs it,
    and ``why``, in words.
    """

    def __init__(self, folder, ctx=None, batch_size=32, engine='auto', threads=1):
        self.metadata = Metadata.read(folder)
        self._folder, self._ctx, self._activation = folder, ctx, None
        self._engine, self.why = choose(folder, self.metadata, engine, ctx)
        self.engine = self._engine.name
        super().__init__(self.metadata.classes, EvalTransform(self.metadata.view), self._probabilities, batch_size,
                         threads)
        self._check_processor()

    def scores(self, images):
        """Return scores, float32 (N,K), of transformed images, uint8 (N,H,W,3): their softmax are the probabilities."""
        with self._lock:
            output = self._engine(images)
        if self.metadata.output == 'probabilities':
            return np.log(np.maximum(output, np.finfo(np.float32).tiny))
        return output

    def _probabilities(self, images):
        return probabilities(self._engine(images), self.metadata)

    def maps(self, images):
        """Return where the network looks in transformed images, uint8 (N,H,W,3): dict of name → (N,h,w), non-negative.

        Each value covers its share of the image. What model.onnx returns besides scores is preferred; otherwise it is
        the class activation of the predicted class, where MXNet is installed and the graph tells.

        :raises NoActivation: if there is none; the message says why.
        """
        with self._lock:
            if self._activation is None:
                self._activation = self._open_maps()
            return self._activation(images)

    def _open_maps(self):
        names = possible(self.metadata, self._ctx)
        if 'onnxruntime' in names:
            engine = self._engine if self.engine == 'onnxruntime' else OnnxEngine(self._folder, self.metadata)
            if engine.maps:
                return lambda images: dict(zip(engine.maps, engine.run(images, engine.maps)))
        if 'mxnet' not in names:
            raise NoActivation('model.onnx returns no maps, and MXNet, which can derive them, is not installed')
        try:
            activation = ClassActivation(open_engine('mxnet', self._folder, self.metadata, self._ctx),
                                         self.metadata.input_name)
        except NotUsable as reason:
            raise NoActivation(str(reason)) from None
        return lambda images: {'class activation': activation(images)}

    def _check_processor(self):
        """Warn where a certificate was measured on another kind of processor."""
        try:
            with open(os.path.join(self._folder, CERTIFICATE), encoding='utf-8') as stream:
                certified = json.load(stream)['isa']
        except (OSError, ValueError, KeyError, TypeError):  # there need not be one
            return
        here = onednn_choice()
        if certified != here:
            warnings.warn(f"{CERTIFICATE} was measured with {certified}, this processor has {here}: results differ by "
                          'rounding, int8 by more; certify the export here before you rely on its figures',
                          stacklevel=3)


def _check_array(array, shape):
    """Return ``array``, uint8 of ``shape``, or raise DataError: floats from 0 to 1 would pass for black."""
    if not isinstance(array, np.ndarray):
        raise DataError(f'an array of pixels is uint8 RGB {shape}, 0 to 255, not of type {type(array).__name__}')
    if array.dtype != np.uint8 or array.ndim != len(shape.split(',')) or array.shape[-1] != 3 or not array.size:
        raise DataError(f'an array of pixels is uint8 RGB {shape}, 0 to 255, not {array.dtype} {array.shape}')
    return array


def ranking(classes, probabilities, count):
    """Return the ``count`` most probable classes, the best first: list of (name, probability)."""
    order = np.argsort(-probabilities, kind='stable')[:count]
    return [(classes[i], float(f'{probabilities[i]:.7g}')) for i in order]


def main(argv=None):
    """Print the most probable classes of images, one line of JSON each; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('inputs', metavar='INPUT', nargs='+', help='image, folder of images, or quoted glob')
    parser.add_argument('--model', metavar='DIR', default=os.path.dirname(os.path.abspath(__file__)),
                        help='folder of the exported model; default: where this file lies')
    parser.add_argument('--top', metavar='K', type=int, default=5, help='classes an image; default: %(default)s')
    parser.add_argument('--engine', choices=('auto', *ENGINES), default='auto', help='default: %(default)s')
    parser.add_argument('--batch-size', metavar='N', type=int, default=32, help='default: %(default)s')
    parser.add_argument('--threads', metavar='N', type=int, default=1, help='that decode; default: %(default)s')
    args = parser.parse_args(argv)
    if min(args.top, args.batch_size, args.threads) < 1:
        parser.error('--top, --batch-size and --threads must be at least 1')
    try:
        paths = find_images(args.inputs)
        model = Predictor(args.model, None, args.batch_size, args.engine, args.threads)
        print(f'engine: {model.why}', file=sys.stderr)
        for path, ranked in zip(paths, model.top(paths, args.top)):
            print(json.dumps({'path': path, 'predictions': [{'class': name, 'probability': p} for name, p in ranked]}))
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == '__main__':
    sys.exit(main())
