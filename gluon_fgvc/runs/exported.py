"""A run seen through its exported model: what needs no more than scores is run by the engine that is fastest here."""
import copy
import os

import mxnet as mx
from mxnet import nd

from gluon_fgvc.deploy import Predictor
from gluon_fgvc.deploy.activation import NoActivation
from gluon_fgvc.errors import CheckpointError, ConfigError
from gluon_fgvc.files import hash_of_file
from gluon_fgvc.pages.maps import Row


def through_export(run, engine='auto', folder=None):
    """Return ``run`` with its scores from an exported model, on the CPU; its method and data stay as they are.

    :param engine: one of ``choices.ENGINES``; see :class:`~gluon_fgvc.deploy.Predictor`.
    :param folder: of the exported model; None is the run's own.
    :raises CheckpointError: if there is none, or it was made of another run, or of another epoch than the open one.
    """
    folder = folder or run.files.export
    model = Predictor(folder, mx.cpu(), engine=engine)
    source = model.metadata.source
    made_of = source.get('config_sha256'), source.get('epoch'), model.classes
    if made_of != (hash_of_file(run.files.config), run.epoch, tuple(run.classes)):
        raise CheckpointError(f"'{folder}' was made of epoch {source.get('epoch')} of run '{source.get('run')}', and "
                              f"'{run.folder}' is open at epoch {run.epoch}, or was configured anew since; export it "
                              'again, or name another with --export')
    seen = copy.copy(run)  # what is read already, such as the data set, comes along
    seen.exported, seen.contexts = model, [mx.cpu()]
    return seen


class Scores:
    """An exported model in the place of a network: pixels, uint8 (N,H,W,3), to scores (N,K), both NDArrays.

    They are the scores before the graph divided them by its temperature, as the network gives them.
    """

    def __init__(self, model):
        self._model = model

    def __call__(self, pixels):
        metadata, size = self._model.metadata, pixels.shape[1:3]
        if size != metadata.size and not metadata.flexible:
            raise ConfigError(f'the exported model takes images of {list(metadata.size)} pixels, not {list(size)}; '
                              'without --engine the network of the run sees them')
        return nd.array(self._model.scores(pixels.asnumpy()) * (metadata.temperature or 1))


def look(folder, engine, paths):
    """Return the :class:`~gluon_fgvc.deploy.Predictor` of an exported model and, of each image file, its row of a page.

    :returns: the predictor, list of :class:`~gluon_fgvc.pages.maps.Row`.
    :raises CheckpointError: if the graph does not tell where it looks.
    :raises DataError: naming an image that cannot be used.
    """
    model = Predictor(folder, mx.cpu(), engine=engine)
    return model, [_row(model, os.path.basename(path), model.load(path)) for path in paths]


def _row(model, name, image):
    try:
        maps = model.maps(image[None])
    except NoActivation as reason:
        raise CheckpointError(f"the exported model does not tell where it looks: {reason}; give the run folder that it "
                              'was made of') from None
    probabilities = model.predict_batch(image[None])[0]
    best = int(probabilities.argmax())
    return Row(name, image, {title: values[0] for title, values in maps.items()}, model.classes[best],
               float(probabilities[best]))
