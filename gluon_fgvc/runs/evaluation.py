"""Evaluate runs on a split, alone or together, and write the report."""
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from gluon_fgvc import data
from gluon_fgvc.engine import metrics
from gluon_fgvc.engine.evaluate import evaluation, list_test, predict, predict_together, suffix_of, write_evaluation
from gluon_fgvc.engine.log import progress
from gluon_fgvc.errors import ConfigError
from gluon_fgvc.nn import complexity
from gluon_fgvc.pages.look import look
from gluon_fgvc.pages.report import write_report
from gluon_fgvc.runs import pointing_game as game
from gluon_fgvc.runs.build import load_config, loader_of, report_bad
from gluon_fgvc.runs.folder import check_same_split


def evaluate(run, split='test', *, crop=True, pointing_game=None, log=None):
    """Evaluate a :class:`Run` on a split, write ``evaluation*.json`` and ``predictions*.csv``, return the summary.

    :param crop: False shows the network whole images instead of their centres, in batches of one size. A classifier
        on the averaged map is then averaged over the whole image.
    :param pointing_game: also play the energy-based pointing game; None does so if ``run.pointing_game`` says so.
    :raises ConfigError: if the images must be cropped or cannot be, or have no boxes for the ``pointing_game``.
    """
    play = run.cfg.run.pointing_game if pointing_game is None else pointing_game
    predictions, image_set, result = _evaluate(run, split, crop, play, log)
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


def _evaluate(run, split, crop=True, play=False, log=None):
    """Return the predictions, the image set and the summary of one split."""
    image_set, transform = _split(run, split), data.EvalTransform(_eval_view(run, crop))
    if play:
        game.check_boxes(image_set)
    loader = loader_of(run.cfg, image_set, transform=transform, kinds=None if crop else _sizes(image_set, [transform]))
    try:
        with progress(len(image_set), split) as bar:
            predictions = predict(run.method.net, run.normalize, loader, image_set, run.contexts, bar)
        result = evaluation(predictions, image_set, run.classes, len(loader.bad), run.chosen_by, run.which,
                            run.source.groups)
        result['cost'] = _cost(run, transform.output_size)
        if not crop:
            result['views'] = _views_name(None, crop)
        if play:
            result['pointing_game'] = game.pointing_game(run, image_set, loader)
        report_bad(loader, log)
    finally:
        loader.close()
    return predictions, image_set, result


def _cost(run, size):
    """Return the parameters of the deployed network, and its multiply-adds on one image where images have one size."""
    net = run.method.deployed()
    cost = {'parameters': complexity.parameters(net)}
    return {**cost, 'multiply_adds': complexity.multiply_adds(net, 3, *size)} if size else cost


def _eval_view(run, crop):
    """Return ``data.eval``, without its crop unless ``crop``."""
    view = run.cfg.data.eval
    if crop:
        return view
    if run.method.square_images:
        raise ConfigError(f"method '{run.cfg.method.name}' takes square images of one size: they must be cropped")
    if not view.crop:
        raise ConfigError('data.eval.crop is not set: images are seen whole already')
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

    transforms = [data.eval_views(_eval_view(run, crop), views) for run in runs]
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
        report_bad(loaders[0], None)
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
        raise ConfigError(f"there is no {split} split: data.val_fraction is 0 and the data set brings none")
    if split != 'test':
        check_same_split(run.folder, data.split_record(run.source), (split,))
    return image_set


def _test_evaluations(folder):
    try:
        return len((folder / 'test_evaluations.jsonl').read_text(encoding='utf-8').splitlines())
    except FileNotFoundError:
        return 0


def headline(result):
    """Return one line that sums an evaluation up and says which split chose the epoch."""
    tops = ' '.join(f'top-{k} {result[f"top{k}"]:.4f}' for k in (1, 3, 5) if f'top{k}' in result)
    played = result.get('pointing_game')
    return (f"{result['split']}: {tops} mean class {result['mean_class_accuracy']:.4f} loss {result['loss']:.4f} on "
            f"{result['images']} images ({_origin(result)})"
            + (f"; {game.in_words(played)}" if played else ''))


def _origin(result):
    members, chosen = result.get('members', ()), result['chosen_by']
    whole = 'whole images, ' if (result.get('views') or '').startswith('no_crop') else ''
    if members:
        return (f"{whole}mean of {len(members)} network{'s' * (len(members) > 1)}, {members[0]['views']} "
                f"view{'s' * (members[0]['views'] > 1)} each")
    if chosen['split']:
        return f"{whole}epoch {chosen['epoch'] + 1}, chosen by {chosen['split']} {chosen['metric']}"
    return f"{whole}epoch {chosen['epoch'] + 1}, the last (no validation split)"


def report(folder, source, run=None):
    """Write the report of run folder ``folder``, its thumbnails read as the data set reads its images.

    :param run: the open :class:`Run`, whose network shows where it looks; None leaves that section out.
    """
    def look_at(path, label):
        image = source.read(path)
        return None if image is None else look(run, path, data.EvalTransform(run.cfg.data.eval)(image), label)

    return write_report(folder, read=source.read, look=run and look_at)
