"""Train a configuration in a run folder, down to its test and report."""
import time
from pathlib import Path

import mxnet as mx

from gluon_fgvc import data
from gluon_fgvc.engine import checkpoint, ending, team, tensorboard
from gluon_fgvc.engine.fit import TrainingData, fit
from gluon_fgvc.engine.log import Log, Silence
from gluon_fgvc.engine.state import State
from gluon_fgvc.errors import CheckpointError, ConfigError
from gluon_fgvc.files import remove_leftovers
from gluon_fgvc.run_folder import RunFolder
from gluon_fgvc.runs.build import build_method, check_settings, contexts_from, loader_of, report_bad
from gluon_fgvc.runs.evaluation import evaluate
from gluon_fgvc.runs.folder import claim, existing_folder
from gluon_fgvc.runs.init_from import load_from
from gluon_fgvc.runs.opened import Run
from gluon_fgvc.runs.pointing_game import check_boxes
from gluon_fgvc.runs.reporting import report


def train(cfg, folder, *, test=True, source=None, init_from=None):
    """Train ``cfg`` in run folder ``folder`` (resuming what is there), evaluate the best epoch, write the report.

    :param folder: its path, or a function that makes it, which is called when nothing is wrong with the data.
    :param test: evaluate the test split, once, with the checkpoint that validation chose.
    :param source: the data set of ``cfg``, where that has been read already.
    :param init_from: run folder whose best weights a new training starts from; see :func:`.load_from`.
    :returns: the evaluation (see ``evaluation.json``), or None without ``test``.
    :raises Interrupted: when SIGTERM or SIGUSR1 came; everything is kept, and the same call goes on with it.
    """
    check_settings(cfg)
    if init_from is not None:
        existing_folder(init_from)  # told before the data are read
    if cfg.run.tensorboard:
        tensorboard.check_installed()
    contexts = contexts_from(cfg.run.contexts)
    _check_backbone(cfg)
    _check_contexts(cfg, contexts)
    group = team.join(cfg.run.kvstore)
    source = source or data.build(cfg.data)
    _check_team(cfg, source, group.size)
    if cfg.run.pointing_game:
        check_boxes(source.test)
    if not group.writes:
        with ending.heeded():
            _fit(cfg, source, contexts, Silence(), None, group)
        return None
    folder = Path(folder() if callable(folder) else folder)
    _check_name(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with RunFolder(folder).lock(), ending.heeded():
        remove_leftovers(folder)
        notes = [claim(folder, cfg, source)]
        done = checkpoint.recover(folder, notes.append)
        log = Log(folder, done, cfg.run.tensorboard)
        for note in filter(None, notes):
            if done['epoch'] < cfg.train.epochs:
                log.line(note)
        _fit(cfg, source, contexts, log, None if done else init_from, group)
        run = Run.open(folder, contexts=contexts, source=source)
        result = (_earlier_evaluation(run) or evaluate(run, 'test', say=log.line)) if test else None
        log.line(f'report: {report(run)}')
    return result


def _check_name(folder):
    try:
        str(folder).encode('utf-8')
    except UnicodeEncodeError:
        raise CheckpointError(f"run folder '{folder}' is not named in UTF-8, and MXNet writes no file into such; name "
                              'another') from None


def _check_backbone(cfg):
    """Refuse statistics that are to be kept where there are none."""
    if cfg.backbone.batch_norm == 'fixed' and cfg.backbone.weights == 'none':
        raise ConfigError("backbone.batch_norm: 'fixed' keeps the statistics of pretraining, and backbone.weights is "
                          "'none'; use 'method'")


def _check_contexts(cfg, contexts):
    """Refuse settings that the devices cannot serve."""
    if cfg.data.batch_size < len(contexts):
        raise ConfigError(f'data.batch_size {cfg.data.batch_size} is smaller than the number of devices, '
                          f'{len(contexts)}')
    if cfg.run.sync_batch_norm and len(contexts) > 1 and any(context.device_type == 'cpu' for context in contexts):
        raise ConfigError('run.sync_batch_norm is for GPUs: on several CPU contexts MXNet waits for ever in backward '
                          'pass of two such layers; set it to false, or use one context')
    if cfg.run.sync_batch_norm and cfg.data.last_batch == 'keep':
        raise ConfigError('run.sync_batch_norm needs images for every context in every batch; set data.last_batch: '
                          'discard')
    if cfg.run.kvstore == 'nccl' and any(context.device_type == 'cpu' for context in contexts):
        raise ConfigError("run.kvstore: 'nccl' sums over GPUs only; use 'device' or 'local' on the CPU")


def _check_team(cfg, source, size):
    """Refuse settings under which the processes of a team would lose step with one another."""
    if size == 1:
        return
    rest = len(source.train) % cfg.data.batch_size if cfg.data.last_batch == 'keep' else 0
    if cfg.data.batch_size < size or 0 < rest < size:
        raise ConfigError(f'each of {size} processes needs an image of every batch: data.batch_size is '
                          f'{cfg.data.batch_size}, the last batch has {rest}; change data.batch_size, or discard it')
    if source.val and len(source.val) < size:
        raise ConfigError(f'each of {size} processes needs an image of the validation split, which has '
                          f'{len(source.val)}; change data.val_fraction')
    if cfg.data.bad_image == 'skip':
        raise ConfigError("data.bad_image 'skip' is not for several processes, which must agree on every batch; let "
                          'fgvc doctor data find the broken images, and remove them')


def _fit(cfg, source, contexts, log, init_from, group=None):
    log.line(f"{cfg.method.name} on {cfg.backbone.name}, {cfg.data.name}: {len(source.classes)} classes, "
             f"{len(source.train)} train, {len(source.val) if source.val else 0} validation, {len(source.test)} test "
             f"images; {', '.join(map(str, contexts))}; in {log.folder}")
    for note in source.notes:
        log.line(note)
    # Workers fork: before the network starts its threads.
    loaders = [loader_of(cfg, source.train, train=True)]
    if source.val:
        loaders.append(loader_of(cfg, source.val))
    try:
        method, normalize = build_method(cfg, len(source.classes), contexts)
        _check_classes(method, normalize, loaders[0], len(source.classes), contexts[0])
        if init_from is not None:
            log.line(load_from(init_from, method.train_net))
        note = method.calibrate(lambda: _first_batch(loaders[0], normalize, contexts[0]))
        if note:
            log.line(note)
        if group is not None:
            for loader in loaders:
                loader.divide(group.rank, group.size)
        started = time.time()
        fit(method, TrainingData(loaders[0], loaders[1] if source.val else None, normalize, len(source.classes)), cfg,
            log, group)
        if group is not None:
            group.leave()
        log.line(f'training took {time.time() - started:.0f} s')
        for loader in loaders:
            report_bad(loader, log.line)
    finally:
        for loader in loaders:
            loader.close()


def _first_batch(loader, normalize, context):
    """Return (images (N,3,H,W), normalised, labels) of the first batch of the first epoch."""
    batch = next(iter(loader.epoch(0)))
    return normalize(batch.images.as_in_context(context)), batch.labels.as_in_context(context)


def start_from(cfg, folder, method, source, val=None):
    """Make the run folder ``folder`` of ``cfg`` at epoch 0, with the parameters of ``method`` for pretrained ones.

    It can be evaluated and exported as it is; training it (``--resume``) goes on from there.

    :param val: summary of the validation of ``method``, which the epochs of a training must beat; None without.
    :raises CheckpointError: if the folder has a checkpoint already.
    """
    folder = Path(folder)
    if RunFolder(folder).has_checkpoint:
        raise CheckpointError(f"'{folder}' holds a run already; name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    claim(folder, cfg, source)
    State(folder, method.train_net, cfg.train).start(val)


def _earlier_evaluation(run):
    """Return the evaluation of the test split that ``run`` has already, so that resuming does not add another."""
    result = run.files.read_evaluation()
    return result if result and result.get('chosen_by') == run.chosen_by else None


def _check_classes(method, normalize, loader, num_classes, context):
    """Run two images through both networks: a wrong number of classes must never train silently."""
    size = loader.transform.output_size or (64, 64)
    images = normalize(mx.nd.zeros((2, *size, 3), ctx=context, dtype='uint8'))
    try:
        scores = method.net(images)
        mx.nd.waitall()  # in prediction oneDNN reorders weights in place: no two blocks on the same ones at a time
        method.train_net(images)
        mx.nd.waitall()
    except mx.MXNetError as error:
        raise ConfigError(f'the network cannot take images of {size[0]} x {size[1]} (height x width); change crop and '
                          f'resize in data.train and data.eval: {str(error).splitlines()[-1]}') from None
    if scores.shape != (2, num_classes):
        raise ConfigError(f'the method gives {scores.shape[1]} scores an image, the data set has {num_classes} classes')
