"""A trained run, opened at one of its checkpoints."""
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mxnet import nd

from gluon_fgvc import backbones, config, data, methods
from gluon_fgvc.engine import checkpoint
from gluon_fgvc.errors import CheckpointError
from gluon_fgvc.nn import Normalize
from gluon_fgvc.runs.build import build_method, contexts_of, load_config
from gluon_fgvc.runs.folder import WIDTHS, check_same_classes, existing_folder, read_classes


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

    @property
    def ctx(self):
        """The first of ``contexts``."""
        return self.contexts[0]

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
        return backbones.read_plan(self.folder / WIDTHS, self.cfg.backbone.name)

    def batch_of(self, image):
        """Return one image, (H,W,3) uint8 RGB prepared as for testing, as the network takes it: (1,3,H,W)."""
        return self.normalize(nd.array(image[None], ctx=self.ctx, dtype='uint8'))

    def probabilities(self, images):
        """Return the class probabilities (N,K) of ``images``, (N,3,H,W) and normalised."""
        return nd.softmax(self.method.net(images), axis=-1)

    @classmethod
    def open(cls, folder, which='best', contexts=None, data_root=None):
        """Open run folder ``folder`` at its 'best' or 'last' checkpoint.

        :param data_root: where the data set is now, if it has moved since the training.
        :raises CheckpointError: when it is no run folder, has no checkpoint yet, or is damaged.
        """
        folder = existing_folder(folder)
        cfg = load_config(folder / 'config.yaml', [('data.root', data_root)] if data_root else ())
        classes, record = read_classes(folder), checkpoint.read(folder, which)
        if record is None or classes is None:
            raise CheckpointError(f"'{folder}' has no '{which}' checkpoint yet; train it first (--resume goes on)")
        contexts = contexts or contexts_of(cfg.run.contexts)
        # The parameters come from the checkpoint: the source of the pretrained ones is not needed again.
        tree = config.to_tree(cfg)
        tree['backbone']['weights'] = 'none'
        if cfg.backbone.widths is not None:
            tree['backbone']['widths'] = str(folder / WIDTHS)
        for key in ('init_from_imagenet', 'attention_weights'):
            tree['method'].pop(key, None)
        method, normalize = build_method(
            config.from_tree(tree, data.options, methods.options, str(folder / 'config.yaml')), len(classes), contexts)
        checkpoint.load_parameters(folder, record, method.train_net)
        method.net.hybridize(cfg.run.hybridize, static_alloc=cfg.run.hybridize, static_shape=cfg.run.hybridize)
        chosen_by = record['chosen_by'] if which == 'best' else {'split': None, 'epoch': record['epoch'] - 1}
        return cls(folder, cfg, classes, method, normalize, contexts, which, record['epoch'], chosen_by)


open_run = Run.open
