"""A trained run, opened at one of its checkpoints."""
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Optional

from mxnet import nd

from gluon_fgvc import backbones, config, data, methods
from gluon_fgvc.deploy import Predictor
from gluon_fgvc.engine import checkpoint, temperature
from gluon_fgvc.errors import CheckpointError
from gluon_fgvc.nn import Normalize
from gluon_fgvc.nn.parameters import compile_net
from gluon_fgvc.run_folder import RunFolder
from gluon_fgvc.runs.build import build_method, contexts_from, load_config
from gluon_fgvc.runs.exported import Scores
from gluon_fgvc.runs.folder import check_same_classes, existing_folder


@dataclass
class Run:
    """A trained run, ready to be evaluated, exported or looked into."""

    folder: Path
    cfg: config.Config
    classes: list
    method: methods.Method
    normalize: Normalize
    contexts: list
    which: str
    epoch: int
    chosen_by: dict
    exported: Optional[Predictor] = None  # what gives the scores in the network's place; see runs.exported

    @property
    def files(self):
        """What lies in ``folder``."""
        return RunFolder(self.folder)

    @property
    def ctx(self):
        """The first of ``contexts``."""
        return self.contexts[0]

    @property
    def origin(self):
        """Where its figures come from: what chose the epoch, and which checkpoint it is."""
        return {'chosen_by': self.chosen_by, 'checkpoint': self.which}

    @cached_property
    def source(self):
        """The data set, read when it is first asked for.

        :raises CheckpointError: if its classes are no longer those of the training.
        """
        source = data.build(self.cfg.data)
        check_same_classes(self.folder, self.classes, source.classes)
        return source

    @property
    def widths(self):
        """The numbers of channels that differ from the backbone's own, dict of convolution → number."""
        if self.cfg.backbone.widths is None:
            return {}
        return backbones.read_plan(self.files.widths, self.cfg.backbone.name)

    @property
    def scorer(self):
        """What scores images: a network (N,3,H,W) → (N,K), and what makes its input of pixels, uint8 (N,H,W,3)."""
        if self.exported is None:
            return self.method.net, self.normalize
        return Scores(self.exported), lambda pixels: pixels

    @property
    def by(self):
        """What evaluations are marked with where an exported model gave the scores: dict of its ``engine``."""
        return {} if self.exported is None else {'engine': self.exported.engine}

    def batch_of(self, image):
        """Return one image, (H,W,3) uint8 RGB prepared as for testing, as the network takes it: (1,3,H,W)."""
        return self.normalize(nd.array(image[None], ctx=self.ctx, dtype='uint8'))

    @property
    def temperature(self):
        """What validation has fitted at this checkpoint to divide logits by; None if nothing, or nothing of use."""
        return temperature.usable(self.chosen_by.get('temperature'))

    def probabilities(self, images, calibrated=True):
        """Return the class probabilities (N,K) of ``images``, (N,3,H,W) and normalised, at ``temperature``.

        :param calibrated: False leaves the logits as they are.
        """
        scores = self.method.net(images)
        return nd.softmax(scores / self.temperature if calibrated and self.temperature else scores, axis=-1)

    @classmethod
    def open(cls, folder, which='best', contexts=None, *, source=None, data_root=None):
        """Open run folder ``folder`` at its 'best' or 'last' checkpoint.

        :param source: its data set, where that has been read already.
        :param data_root: where the data set is now, if it has moved since the training.
        :raises CheckpointError: when it is no run folder, has no checkpoint yet, or is damaged.
        """
        folder = existing_folder(folder)
        files = RunFolder(folder)
        cfg = load_config(files.config, [('data.root', data_root)] if data_root else ())
        classes = files.read_classes()
        if classes is None or not getattr(files, which).exists():
            raise CheckpointError(f"'{folder}' has no '{which}' checkpoint yet; train it first (--resume goes on)")
        contexts = contexts or contexts_from(cfg.run.contexts)
        method, normalize = build_method(_of_checkpoint(cfg, files), len(classes), contexts)
        record, _ = checkpoint.follow(
            folder, which, lambda record: checkpoint.load_parameters(folder, record, method.train_net))
        compile_net(method.net, cfg.run.hybridize)
        chosen_by = record['chosen_by'] if which == 'best' else {'split': None, 'epoch': record['epoch'] - 1}
        run = cls(folder, cfg, classes, method, normalize, contexts, which, record['epoch'], chosen_by)
        if source is not None:
            run.source = source
        return run


def _of_checkpoint(cfg, files):
    """Return ``cfg`` for a network that depends on nothing but the run folder: neither weights nor plan elsewhere."""
    cfg = config.untrained(cfg)
    return cfg if cfg.backbone.widths is None else config.replace(cfg, {'backbone.widths': str(files.widths)})


open_run = Run.open
