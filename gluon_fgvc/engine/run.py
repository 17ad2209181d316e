"""From a configuration to a run folder and back: the one place where all parts meet."""
import datetime
import difflib
import json
import os
import platform
import re
import time
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import mxnet as mx
import numpy as np
from tqdm import tqdm

from gluon_fgvc import __version__, backbones, config, data, methods
from gluon_fgvc.analysis import complexity
from gluon_fgvc.analysis.cam import activation_on_images, coverage, share_inside
from gluon_fgvc.analysis.look import look
from gluon_fgvc.analysis.report import write_report
from gluon_fgvc.engine import checkpoint, metrics
from gluon_fgvc.engine.evaluate import evaluation, list_test, predict, predict_together, suffix_of, write_evaluation
from gluon_fgvc.engine.log import Log, progress
from gluon_fgvc.engine.loop import begin, fit
from gluon_fgvc.errors import CheckpointError, ConfigError, DataError
from gluon_fgvc.files import lock, remove, write_atomically
from gluon_fgvc.nn import Normalize

WIDTHS = 'widths.json'  # the channel plan in a run folder, where the backbone has one


def load_config(path, overrides=()):
    """Return the checked :class:`~gluon_fgvc.config.Config` of a YAML file; see :func:`gluon_fgvc.config.load`."""
    return config.load(path, overrides, data_options=data.options, method_options=methods.options)


def contexts_of(setting):
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


def build_method(cfg, num_classes, contexts):
    """Build the method of ``cfg`` with weights loaded or initialised; random numbers from ``run.seed``.

    :returns: (method, Normalize block with ``data.mean``/``data.std`` or else the backbone's).
    """
    mx.random.seed(cfg.run.seed)
    np.random.seed(cfg.run.seed)  # some MXNet initialisers draw from numpy's global stream
    backbone = backbones.get(cfg.backbone.name, weights=cfg.backbone.weights, head=cfg.backbone.head, ctx=contexts,
                             output_stride=cfg.backbone.output_stride, dilate=cfg.backbone.dilate,
                             plan=cfg.backbone.widths, dropout=cfg.backbone.dropout)
    method = methods.create(cfg.method.name, backbone, num_classes, cfg.method.options)
    normalize = Normalize(cfg.data.mean or backbone.mean, cfg.data.std or backbone.std)
    normalize.collect_params().reset_ctx(contexts)
    normalize.hybridize()
    return method, normalize


def loader_of(cfg, image_set, *, train=False, transform=None, workers=None, kinds=None):
    """Return the loader of one split, prepared as ``data.train`` or ``data.test`` says, or by ``transform``.

    For ``kinds`` see :class:`~gluon_fgvc.data.Loader`.
    """
    transform = transform or (data.TrainTransform(cfg.data.train) if train else data.TestTransform(cfg.data.test))
    weighted = train and cfg.data.sampler == 'weighted'
    return data.Loader(image_set, transform, cfg.data.batch_size, train=train, seed=cfg.run.seed,
                       workers=cfg.data.workers if workers is None else workers,
                       threads=cfg.data.worker_type == 'thread', cache=cfg.data.cache, bad_image=cfg.data.bad_image,
                       last='discard' if train else 'keep', kinds=kinds,
                       sampler=data.samplers.Weighted(image_set.labels, cfg.run.seed) if weighted else None)


# --- training --------------------------------------------------------------------------------

def train(cfg, folder, *, test=True):
    """Train ``cfg`` in run folder ``folder`` (resuming what is there), evaluate the best epoch, write the report.

    :param test: evaluate the test split, once, with the checkpoint that validation chose.
    :returns: the evaluation (see ``evaluation.json``), or None without ``test``.
    """
    folder, contexts = Path(folder), contexts_of(cfg.run.contexts)
    if cfg.data.batch_size < len(contexts):
        raise ConfigError(f'data.batch_size {cfg.data.batch_size} is smaller than the number of devices, '
                          f'{len(contexts)}')
    if cfg.run.kvstore == 'nccl' and any(context.device_type == 'cpu' for context in contexts):
        raise ConfigError("run.kvstore: 'nccl' sums over GPUs only; use 'device' or 'local' on the CPU")
    source = data.build(cfg.data)
    if cfg.run.focus:
        _check_boxes(source.test)
    folder.mkdir(parents=True, exist_ok=True)
    with _only_writer(folder):
        _claim(folder, cfg, source)
        done = checkpoint.read(folder, 'last')
        log = Log(folder, completed=done['epoch'] if done else 0)
        _fit(cfg, folder, source, contexts, log)
        run = result = None
        if test:
            run = Run.open(folder, contexts=contexts)
            result = _earlier_evaluation(run) or evaluate(run, 'test', log=log)
        log.line(f'report: {report(folder, source, run)}')
    return result


def _only_writer(folder):
    """Return a context in which no other process trains in ``folder``."""
    try:
        return lock(folder / '.lock')
    except BlockingIOError:
        raise CheckpointError(f"another process is training in '{folder}'; wait for its end, or name another "
                              '--work-dir') from None


def _fit(cfg, folder, source, contexts, log):
    log.line(f"{cfg.method.name} on {cfg.backbone.name}, {cfg.data.name}: {len(source.classes)} classes, "
             f"{len(source.train)} train, {len(source.val) if source.val else 0} validation, {len(source.test)} test "
             f"images; {', '.join(map(str, contexts))}; in {folder}")
    # Workers fork: before the network starts its threads.
    loaders = [loader_of(cfg, source.train, train=True)]
    if source.val:
        loaders.append(loader_of(cfg, source.val))
    try:
        method, normalize = build_method(cfg, len(source.classes), contexts)
        _check_sizes(method, loaders)
        _check_classes(method, normalize, loaders[0], len(source.classes), contexts[0])
        started = time.time()
        fit(method, (source.train, loaders[0]), (source.val, loaders[1]) if source.val else None, cfg, folder, log,
            normalize=normalize, contexts=contexts, num_classes=len(source.classes))
        log.line(f'training took {time.time() - started:.0f} s')
        for loader in loaders:
            _report_bad(loader, log)
    finally:
        for loader in loaders:
            loader.close()


def report(folder, source, run=None):
    """Write the report of run folder ``folder``, its thumbnails read as the data set reads its images.

    :param run: the open :class:`Run`, whose network shows where it looks; None leaves that section out.
    """
    indices = {}

    def read(path):
        if not indices:
            indices.update((name, i) for i, name in enumerate(source.test.paths))
        try:
            return source.test.read(indices[path])
        except (KeyError, DataError):
            return None

    def look_at(path, label):
        image = read(path)
        return None if image is None else look(run, path, data.TestTransform(run.cfg.data.test)(image), label)

    return write_report(folder, read=read, look=run and look_at)


def _earlier_evaluation(run):
    """Return the evaluation of the test split that ``run`` has already, so that resuming does not add another."""
    result = _read_json(run.folder / 'evaluation.json')
    return result if result and result.get('chosen_by') == run.chosen_by else None


def evaluate(run, split='test', *, crop=True, focus=None, log=None):
    """Evaluate a :class:`Run` on a split, write ``evaluation*.json`` and ``predictions*.csv``, return the summary.

    :param crop: False shows the network whole images instead of their centres, in batches of one size. A classifier
        on the averaged map is then averaged over the whole image.
    :param focus: also measure :func:`_focus`; None does so if ``run.focus`` says so.
    :raises ConfigError: if the images must be cropped or cannot be, or have no boxes for ``focus``.
    """
    focus = run.cfg.run.focus if focus is None else focus
    predictions, image_set, result = _evaluate(run, split, crop, focus, log)
    write_evaluation(run.folder, predictions, image_set, run.classes, result)
    say = log.line if log else tqdm.write
    say(headline(result))
    times = _test_evaluations(run.folder)
    if split == 'test' and times > 1:
        say(f'the test split of this run has now been evaluated {times} times, which its report will say; what is '
            'chosen by it is no longer measured by it (choose by --split val)')
    return result


def evaluate_altered(run, split, overrides):
    """Evaluate a :class:`Run` on a split read with other options, and return the summary; nothing is written.

    :param overrides: pairs (dotted key, value) of the section ``data``.
    """
    return _evaluate(replace(run, cfg=load_config(run.folder / 'config.yaml', overrides)), split)[2]


def _evaluate(run, split, crop=True, focus=False, log=None):
    """Return the predictions, the image set and the summary of one split."""
    image_set, transform = _split(run, split), data.TestTransform(_test_view(run, crop))
    if focus:
        _check_boxes(image_set)
    loader = loader_of(run.cfg, image_set, transform=transform, kinds=None if crop else _sizes(image_set, [transform]))
    try:
        with progress(len(image_set), split) as bar:
            predictions = predict(run.method.net, run.normalize, loader, image_set, run.contexts, bar)
        result = evaluation(predictions, image_set, run.classes, len(loader.bad), run.chosen_by, run.which,
                            run.source.groups)
        result['cost'] = _cost(run, transform.output_size)
        if not crop:
            result['views'] = _views_name(None, crop)
        if focus:
            result['focus'] = _focus(run, image_set, loader)
        _report_bad(loader, log)
    finally:
        loader.close()
    return predictions, image_set, result


def _cost(run, size):
    """Return the parameters of the deployed network, and its multiply-adds on one image where images have one size."""
    cost = {'parameters': complexity.parameters(run.method.net)}
    return {**cost, 'multiply_adds': complexity.multiply_adds(run.method.net, 3, *size)} if size else cost


def _focus(run, image_set, loader):
    """Return how much of the activation of the true class lies in the boxes of a split, as a dict.

    ``share`` is the mean over images, ``area`` what the boxes cover of the images, which indifferent activation has as
    its share, ``images`` how many have an activation and ``without`` how many have none.
    """
    shares, areas, transform = [], [], loader.transform
    with progress(len(image_set), 'focus') as bar:
        for batch in loader.epoch(0):
            images = run.normalize(batch.images.as_in_context(run.ctx))
            maps = activation_on_images(run.method, images, batch.labels.as_in_context(run.ctx))
            for index, values in zip(batch.indices, maps):
                box = transform.box(image_set.boxes[index], image_set.open(index).shape)
                shares.append(share_inside(values, box))
                areas.append(coverage(box, values.shape).mean())
            bar.update(len(batch.indices))
    shares = np.array(shares)
    found = np.isfinite(shares)
    return {'share': float(shares[found].mean()) if found.any() else None, 'area': float(np.mean(areas)),
            'images': int(found.sum()), 'without': int((~found).sum())}


def _check_boxes(image_set):
    if image_set.boxes is None:
        raise ConfigError(f"the data set has no boxes for split '{image_set.name}', in which activation could be "
                          'measured; set run.focus to false or leave out --focus')


def _test_view(run, crop):
    """Return ``data.test``, without its crop unless ``crop``."""
    view = run.cfg.data.test
    if crop:
        return view
    if run.method.square_images:
        raise ConfigError(f"method '{run.cfg.method.name}' takes square images of one size: they must be cropped")
    if not view.crop:
        raise ConfigError('data.test.crop is not set: images are seen whole already')
    return replace(view, crop=None)


def _sizes(image_set, transforms):
    """Return for each image the sizes that ``transforms`` give it, None where it cannot be read."""
    sizes = []
    with progress(len(image_set), 'sizes') as bar:
        for index in range(len(image_set)):
            try:
                shape = image_set.open(index).shape
                sizes.append(tuple(transform.size_of(shape) for transform in transforms))
            except data.BrokenImage:
                sizes.append(None)  # for the loader to tell
            bar.update()
    return sizes


def _views_name(views, crop):
    """Return what files and figures are marked with: None for the single view of the centre."""
    return '_'.join(([] if crop else ['no_crop']) + ([views] if views else [])) or None


def evaluate_together(runs, split='test', views=None, folder=None, *, crop=True):
    """Evaluate the mean probability of several runs, or of several views of each image, beside the single views.

    :param runs: list of :class:`Run` on the same classes and images; their preparation of images may differ.
    :param views: None, or test-time augmentation, one of ``data.VIEWS``.
    :param folder: receives ``evaluation*.json`` and ``predictions*.csv``; None is the folder of the only run.
    :param crop: as of :func:`evaluate`.
    :returns: the summary; its ``members`` hold each run's single view, which :func:`headline` shows as well.
    :raises ConfigError: if the runs differ in classes or images, if several have no ``folder``, or if that holds
        such an evaluation already.
    """
    first, image_set = runs[0], _split(runs[0], split)
    if folder is None and len(runs) > 1:
        raise ConfigError('several runs need a folder of their own for the result (--out)')
    for run in runs[1:]:
        other = _split(run, split)
        if run.classes != first.classes or not np.array_equal(other.labels, image_set.labels):
            raise ConfigError(f"'{run.folder}' and '{first.folder}' have other classes or {split} images; an ensemble "
                              'needs the same')
    name = _views_name(views, crop)
    suffix = suffix_of(split, first.which, name)
    if folder is not None and (Path(folder) / f'evaluation{suffix}.json').exists():
        raise ConfigError(f"'{Path(folder) / f'evaluation{suffix}.json'}' exists already; name another folder")

    transforms = [data.test_views(_test_view(run, crop), views) for run in runs]
    kinds = None if crop else _sizes(image_set, [transform for own in transforms for transform in own])
    count, loaders, members = sum(map(len, transforms)), [], []
    try:
        for run, own in zip(runs, transforms):
            cfg = replace(run.cfg, data=replace(run.cfg.data, batch_size=first.cfg.data.batch_size,
                                                bad_image=first.cfg.data.bad_image, cache=0))
            views_of_run = [loader_of(cfg, _split(run, split), transform=transform,
                                      workers=first.cfg.data.workers // count, kinds=kinds) for transform in own]
            loaders += views_of_run
            members.append([(run.method.net, run.normalize, loader) for loader in views_of_run])
        with progress(len(image_set), split) as bar:
            together, alone = predict_together(members, image_set, first.contexts, bar)
        _report_bad(loaders[0], None)
        skipped = len(loaders[0].bad)
    finally:
        for loader in loaders:
            loader.close()
    singles = [evaluation(predictions, image_set, first.classes, skipped, run.chosen_by, run.which, first.source.groups)
               for predictions, run in zip(alone, runs)]
    result = evaluation(together, image_set, first.classes, skipped, first.chosen_by, first.which, first.source.groups)
    result['views'] = name
    result['members'] = [{'run': str(run.folder), 'views': len(own), 'chosen_by': run.chosen_by,
                          **metrics.summary(predictions, len(first.classes))}
                         for run, own, predictions in zip(runs, transforms, alone)]
    if len(runs) > 1:
        for run, single in zip(runs, singles):
            list_test(run.folder, {**single, 'ensemble': str(folder)})
        Path(folder).mkdir(parents=True, exist_ok=True)
    write_evaluation(Path(folder or first.folder), together, image_set, first.classes, result)
    for single in singles:
        tqdm.write(f'single view, {headline(single)}')
    tqdm.write(headline(result))
    return result


def _split(run, split):
    image_set = getattr(run.source, split)
    if image_set is None:
        raise ConfigError(f"there is no {split} split: data.val_share is 0 and the data set brings none")
    if split != 'test':
        _check_same_split(run.folder, data.split_record(run.source), (split,))
    return image_set


def _test_evaluations(folder):
    try:
        return len((folder / 'test_evaluations.jsonl').read_text(encoding='utf-8').splitlines())
    except FileNotFoundError:
        return 0


def headline(result):
    """Return one line that sums an evaluation up and says which split chose the epoch."""
    tops = ' '.join(f'top-{k} {result[f"top{k}"]:.4f}' for k in (1, 3, 5) if f'top{k}' in result)
    focus = result.get('focus')
    return (f"{result['split']}: {tops} mean class {result['mean_class_accuracy']:.4f} loss {result['loss']:.4f} on "
            f"{result['images']} images ({_origin(result)})"
            + (f"; {_in_words(focus)}" if focus else ''))


def _in_words(focus):
    without = f", {focus['without']} images without activation" if focus['without'] else ''
    share = 'none' if focus['share'] is None else f"{focus['share']:.4f}"
    return f"activation in the boxes {share}, which cover {focus['area']:.4f}{without}"


def _origin(result):
    members, chosen = result.get('members', ()), result['chosen_by']
    whole = 'whole images, ' if (result.get('views') or '').startswith('no_crop') else ''
    if members:
        return (f"{whole}mean of {len(members)} network{'s' * (len(members) > 1)}, {members[0]['views']} "
                f"view{'s' * (members[0]['views'] > 1)} each")
    if chosen['split']:
        return f"{whole}epoch {chosen['epoch'] + 1}, chosen by {chosen['split']} {chosen['metric']}"
    return f"{whole}epoch {chosen['epoch'] + 1}, the last (no validation split)"


def _report_bad(loader, log):
    for path, reason in loader.bad.items():
        (log.line if log else tqdm.write)(f'skipped {path}: {reason}')
    if loader.bad:
        (log.line if log else tqdm.write)(f'{len(loader.bad)} broken images were skipped (data.bad_image: skip)')


def _check_sizes(method, loaders):
    """Refuse images that are not squares of one size where the method needs them so."""
    for section, loader in zip(('data.train', 'data.test'), loaders):
        size = loader.transform.output_size
        if method.square_images and (size is None or size[0] != size[1]):
            images = 'images of many sizes' if size is None else f'images of {size[0]} x {size[1]}'
            raise ConfigError(f'{section} gives {images}, the method takes square ones; set {section}.crop')


def _check_classes(method, normalize, loader, num_classes, context):
    """Run two images through both networks: a wrong number of classes must never train silently."""
    size = loader.transform.output_size or (64, 64)
    images = normalize(mx.nd.zeros((2, *size, 3), ctx=context, dtype='uint8'))
    try:
        scores = method.net(images)
        method.train_net(images)
        mx.nd.waitall()
    except mx.MXNetError as error:
        raise ConfigError(f'the network cannot take images of {size[0]} x {size[1]} (height x width); change crop and '
                          f'resize in data.train and data.test: {str(error).splitlines()[-1]}') from None
    if scores.shape != (2, num_classes):
        raise ConfigError(f'the method gives {scores.shape[1]} scores an image, the data set has {num_classes} classes')


# --- run folders -----------------------------------------------------------------------------

def new_folder(cfg, stem):
    """Return a run folder name that does not exist yet: ``<work_dir>/<stem>/<timestamp>``."""
    base = Path(cfg.run.work_dir) / stem / datetime.datetime.now().strftime('%Y%m%d-%H%M%S')
    folder, count = base, 1
    while folder.exists():
        count += 1
        folder = base.with_name(f'{base.name}-{count}')
    return folder


def latest_folder(cfg, stem):
    """Return the newest run folder of a configuration, for ``--resume`` without a path."""
    folders = sorted((Path(cfg.run.work_dir) / stem).glob('*/config.yaml'))
    if not folders:
        raise CheckpointError(f"nothing to resume: no run folder in '{Path(cfg.run.work_dir) / stem}'")
    return folders[-1].parent


def existing_folder(path):
    """Return ``path`` as a run folder to resume, or say that it is none."""
    folder = Path(path)
    if not (folder / 'config.yaml').is_file():
        raise CheckpointError(f"'{folder}' is not a run folder (it has no config.yaml){_near(folder)}")
    return folder


def _near(folder):
    names = os.listdir(folder.parent) if folder.parent.is_dir() else []
    near = [name for name in difflib.get_close_matches(folder.name, names, 1) if name != folder.name]
    return f"; did you mean '{folder.parent / near[0]}'?" if near else ''


def _claim(folder, cfg, source):
    """Write what describes the run, or check that the folder's run is this one.

    A run that ended before its first checkpoint has nothing to keep: another one may take its place.
    """
    path, text, split = folder / 'config.yaml', config.dump(cfg), data.split_record(source)
    plan = None if cfg.backbone.widths is None else _channel_plan(cfg)
    if (folder / 'last.json').exists():
        _check_same(path, cfg)
        _check_same_classes(folder, _read_classes(folder), source.classes)
        _check_same_split(folder, split, ('train', 'val'))
        if plan is not None and (folder / WIDTHS).read_bytes() != plan:
            raise ConfigError(f"cannot resume '{folder}': backbone.widths '{cfg.backbone.widths}' is another plan now")
    else:
        remove(folder / 'best.json')
    if plan is not None:  # the run does not depend on the file it came from
        write_atomically(folder / WIDTHS, plan)
    write_atomically(folder / 'classes.json', json.dumps(list(source.classes), indent=1, ensure_ascii=False) + '\n')
    write_atomically(folder / 'split.json', json.dumps(split, indent=1) + '\n')
    write_atomically(folder / 'env.json', json.dumps(environment(), indent=1) + '\n')
    write_atomically(path, text)


def _channel_plan(cfg):
    try:
        return Path(cfg.backbone.widths).read_bytes()
    except OSError as error:
        raise ConfigError(f"backbone.widths: cannot read '{cfg.backbone.widths}': {error.strerror}") from None


def start_from(cfg, folder, method, source, val=None):
    """Make the run folder ``folder`` of ``cfg`` at epoch 0, with the parameters of ``method`` for pretrained ones.

    It can be evaluated and exported as it is; training it (``--resume``) goes on from there.

    :param val: summary of the validation of ``method``, which the epochs of a training must beat; None without.
    :raises CheckpointError: if the folder has a checkpoint already.
    """
    folder = Path(folder)
    if (folder / 'last.json').exists():
        raise CheckpointError(f"'{folder}' holds a run already; name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    _claim(folder, cfg, source)
    begin(folder, method.train_net, val and (val, cfg.train.select_by), cfg.train.ema)


def _check_same_classes(folder, stored, classes):
    if stored is not None and stored != list(classes):
        differing = ', '.join(f"'{name}'" for name in sorted(set(stored) ^ set(classes)))
        raise CheckpointError(f"'{folder}' was trained on other classes than the data set has now: "
                              + (f'only in one of them: {differing}' if differing else 'their order differs'))


def _check_same_split(folder, split, names):
    """Check that the images of splits ``names`` are those that training began with."""
    stored = _read_json(folder / 'split.json')  # runs of earlier versions have none
    for name in names if stored else ():
        before, now = (record['splits'].get(name) for record in (stored, split))
        if before != now:
            count = [record['images'] if record else 0 for record in (before, now)]
            raise CheckpointError(f"'{folder}': split '{name}' is not what it was when training began (then {count[0]} "
                                  f'images, now {count[1]}, or others): the data set has changed; restore it, or '
                                  'start a new run')


def _read_classes(folder):
    classes = _read_json(folder / 'classes.json')
    if classes is not None and not (isinstance(classes, list) and all(isinstance(name, str) for name in classes)):
        raise CheckpointError(f"'{folder / 'classes.json'}' is not a list of class names")
    return classes


# Keys that change where and how a run executes but not what it learns.
_FREE = ('run.contexts', 'run.kvstore', 'run.log_every', 'run.save_every', 'run.work_dir', 'run.focus',
         'data.workers', 'data.worker_type')


def _check_same(path, cfg):
    before, after = _flat(config.to_tree(load_config(path))), _flat(config.to_tree(cfg))
    for key in after:
        if key not in _FREE and before.get(key) != after[key]:
            raise ConfigError(f"cannot resume '{path.parent}': {key} is {after[key]!r} now and was "
                              f'{before.get(key)!r}; start a new run instead')


def _flat(tree, prefix=''):
    if not isinstance(tree, dict):
        return {prefix[:-1]: tree}
    return {key: value for name, part in tree.items() for key, value in _flat(part, f'{prefix}{name}.').items()}


def environment():
    """Return what a figure depends on besides the configuration: versions, processor, threads."""
    try:
        cpu = re.search(r'model name\s*:\s*(.+)', Path('/proc/cpuinfo').read_text())[1]
    except (OSError, TypeError):
        cpu = platform.processor()
    return {'gluon_fgvc': __version__, 'python': platform.python_version(), 'mxnet': mx.__version__,
            'numpy': np.__version__, 'system': platform.platform(), 'cpu': cpu,
            'cores': len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count(),
            'omp_num_threads': os.environ.get('OMP_NUM_THREADS'), 'gpus': mx.context.num_gpus()}


def _read_json(path):
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except FileNotFoundError:
        return None
    except (ValueError, UnicodeDecodeError):
        raise CheckpointError(f"'{path}' is not valid JSON") from None


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
        _check_same_classes(self.folder, self.classes, source.classes)
        return source

    @property
    def widths(self):
        """The numbers of channels that differ from the backbone's own, dict of convolution → number."""
        if self.cfg.backbone.widths is None:
            return {}
        return backbones.read_plan(self.folder / WIDTHS, self.cfg.backbone.name)

    @classmethod
    def open(cls, folder, which='best', contexts=None):
        """Open run folder ``folder`` at its 'best' or 'last' checkpoint.

        :raises CheckpointError: when it is no run folder, has no checkpoint yet, or is damaged.
        """
        folder = existing_folder(folder)
        cfg = load_config(folder / 'config.yaml')
        classes, record = _read_classes(folder), checkpoint.read(folder, which)
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
