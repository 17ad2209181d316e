"""From a configuration to what it names: devices, network and loaders."""
import re

import mxnet as mx
import numpy as np
from tqdm import tqdm

from gluon_fgvc import backbones, config, data, methods
from gluon_fgvc.engine.phases import timeline
from gluon_fgvc.errors import ConfigError
from gluon_fgvc.nn import Normalize
from gluon_fgvc.nn.sync_batch_norm import synchronise


def load_config(path, overrides=()):
    """Return the checked :class:`~gluon_fgvc.config.Config` of a YAML file; see :func:`gluon_fgvc.config.load`."""
    return config.load(path, overrides, data_options=data.options, method_options=methods.options)


def changed(cfg, changes):
    """Return ``cfg`` with ``changes``, dotted keys and values; see :func:`gluon_fgvc.config.replace`."""
    return config.replace(cfg, changes, data_options=data.options, method_options=methods.options)


def check_settings(cfg):
    """Check what needs no images, so that it is told before they are looked for.

    :raises ConfigError: for an unknown backbone, a preparation of images that contradicts itself, options that the
        method does not take on this backbone, or phases that do not last for the epochs.
    :raises WeightsError: for weights in a file that is not there.
    """
    backbones.check_name(cfg.backbone.name)
    backbones.check_weights(cfg.backbone.weights)
    data.check(cfg.data)
    method, _ = build_method(config.untrained(cfg), 2, [mx.cpu()])  # of random parameters: nothing is read
    timeline(method.phases(cfg.train.epochs), cfg.train.epochs)
    for section, transform in (('data.train', data.TrainTransform(cfg.data.train)),
                               ('data.eval', data.EvalTransform(cfg.data.eval))):
        size = transform.output_size
        if method.square_images and (size is None or size[0] != size[1]):
            images = 'images of many sizes' if size is None else f'images of {size[0]} x {size[1]}'
            raise ConfigError(f'{section} gives {images}, the method takes square ones; set {section}.crop')


def contexts_from(setting):
    """Turn ``run.contexts`` into a list of MXNet contexts; ``'auto'`` is all GPUs, else the CPU."""
    if setting == 'auto':
        return [mx.gpu(i) for i in range(mx.context.num_gpus())] or [mx.cpu()]
    names = (setting,) if isinstance(setting, str) else setting
    contexts = []
    for name in names:
        found = re.fullmatch(r'(cpu|gpu)(\d*)', name)
        if not found:
            raise ConfigError(f"run.contexts: '{name}' is not 'auto' or of the form cpu0 or gpu0")
        contexts.append(mx.Context(found[1], int(found[2] or 0)))
    if not contexts or len(set(contexts)) != len(contexts):
        raise ConfigError(f'run.contexts: {list(names)} is empty or names a device twice')
    missing = [c.device_id for c in contexts if c.device_type == 'gpu' and c.device_id >= mx.context.num_gpus()]
    if missing:
        raise ConfigError(f'run.contexts: there is no GPU {missing[0]} ({mx.context.num_gpus()} found); use cpu0')
    return contexts


def seed_initialisers(seed):
    """Make what is initialised next repeatable."""
    mx.random.seed(seed)
    np.random.seed(seed)  # some MXNet initialisers draw from numpy's global stream


def build_method(cfg, num_classes, contexts):
    """Build the method of ``cfg`` with weights loaded or initialised; random numbers from ``run.seed``.

    :returns: (method, Normalize block with ``data.mean``/``data.std`` or else the backbone's).
    """
    seed_initialisers(cfg.run.seed)
    backbone = backbones.get(cfg.backbone.name, weights=cfg.backbone.weights, global_pool=cfg.backbone.global_pool,
                             ctx=contexts, output_stride=cfg.backbone.output_stride, dilate=cfg.backbone.dilate,
                             plan=cfg.backbone.widths, dropout=cfg.backbone.dropout)
    method = methods.create(cfg.method.name, backbone, num_classes, cfg.method.options)
    if cfg.backbone.batch_norm == 'fixed':
        for net in (method.train_net, method.net):
            backbones.hold_pretrained_statistics(net)
    if cfg.run.sync_batch_norm and len(contexts) > 1:
        for net in (method.train_net, method.net):
            synchronise(net, len(contexts))
    normalize = Normalize(cfg.data.mean or backbone.mean, cfg.data.std or backbone.std)
    normalize.collect_params().reset_ctx(contexts)
    normalize.hybridize()
    return method, normalize


def loader_of(cfg, image_set, *, train=False, transform=None, kinds=None):
    """Return the loader of one split, prepared as ``data.train`` or ``data.eval`` says, or by ``transform``.

    For ``kinds`` see :class:`~gluon_fgvc.data.Loader`.
    """
    transform = transform or (data.TrainTransform(cfg.data.train) if train else data.EvalTransform(cfg.data.eval))
    weighted = train and cfg.data.sampler == 'weighted'
    return data.Loader(image_set, transform, cfg.data.batch_size, train=train, seed=cfg.run.seed,
                       workers=cfg.data.workers, threads=cfg.data.worker_type == 'thread', cache=cfg.data.cache,
                       bad_image=cfg.data.bad_image, last=cfg.data.last_batch if train else 'keep', kinds=kinds,
                       timeout=cfg.data.timeout,
                       sampler=data.samplers.Weighted(image_set.labels, cfg.run.seed) if weighted else None)


def report_bad(loader, say=tqdm.write):
    """Tell, one line each, which images ``loader`` skipped."""
    for path, reason in loader.bad.items():
        say(f'skipped {path}: {reason}')
    if loader.bad:
        say(f'{len(loader.bad)} broken images were skipped (data.bad_image: skip)')
