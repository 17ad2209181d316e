"""Evaluate several runs, or several views of each image, by their mean probability."""
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from tqdm import tqdm

from gluon_fgvc import data
from gluon_fgvc.engine import metrics
from gluon_fgvc.engine.evaluate import evaluation, predict_together, write_evaluation
from gluon_fgvc.engine.log import progress
from gluon_fgvc.errors import ConfigError
from gluon_fgvc.run_folder import RunFolder, suffix_of
from gluon_fgvc.runs.build import changed, loader_of, report_bad
from gluon_fgvc.runs.reporting import headline
from gluon_fgvc.runs.views import eval_view, name_of, sizes_of, split_of


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
    first, name = runs[0], name_of(views, crop, runs[0].exported is not None)
    _check_same_images(runs, split, folder)
    _check_is_new(folder, suffix_of(split, first.which, name))
    transforms = [data.eval_views(eval_view(run, crop), views) for run in runs]
    with ExitStack() as stack:
        loaders = _loaders(runs, split, transforms, crop, stack)
        members = [[(*run.scorer, loader) for loader in own] for run, own in zip(runs, loaders)]
        with progress(len(split_of(first, split)), split) as bar:
            together, alone = predict_together(members, first.contexts, bar)
    loader = loaders[0][0]
    report_bad(loader)

    singles = [{**evaluation(predictions, loader, first.classes, run.origin, first.source.groups), **run.by}
               for predictions, run in zip(alone, runs)]
    result = evaluation(together, loader, first.classes, first.origin, first.source.groups)
    result['views'] = name
    result.update({'engine': ', '.join(dict.fromkeys(run.by['engine'] for run in runs if run.by))} if first.by else {})
    result['members'] = [{'run': str(run.folder), 'views': len(own), 'chosen_by': run.chosen_by, **run.by,
                          **metrics.summary(predictions, len(first.classes))}
                         for run, own, predictions in zip(runs, transforms, alone)]
    if len(runs) > 1:
        for run, single in zip(runs, singles):
            run.files.list_test({**single, 'ensemble': str(folder)})
        Path(folder).mkdir(parents=True, exist_ok=True)
    write_evaluation(Path(folder or first.folder), together, loader.image_set, first.classes, result)
    for single in singles:
        tqdm.write(f'single view, {headline(single)}')
    tqdm.write(headline(result))
    return result


def _check_same_images(runs, split, folder):
    if folder is None and len(runs) > 1:
        raise ConfigError('several runs need a folder of their own for the result (--out)')
    first, (images, labels) = runs[0], _images_of(runs[0], split)
    for run in runs[1:]:
        others, other_labels = _images_of(run, split)
        if run.classes != first.classes or others != images or not np.array_equal(other_labels, labels):
            raise ConfigError(f"'{run.folder}' and '{first.folder}' have other classes or {split} images; an ensemble "
                              'needs the same')


def _images_of(run, split):
    """Return the names of the images of a split and their labels; the crop of an image counts as that image."""
    labels = split_of(run, split).labels
    return [name.partition('#xywh=')[0] for name in data.relative_names(run.source)[split]], labels


def _check_is_new(folder, suffix):
    path = folder and RunFolder(folder).evaluation_file(suffix)
    if path and path.exists():
        raise ConfigError(f"'{path}' exists already; name another folder")


def _loaders(runs, split, transforms, crop, stack):
    """Return for each run the loaders of its views, closed by ``stack``; all go through the same images in step."""
    first, count = runs[0].cfg.data, sum(map(len, transforms))
    kinds = None
    if not crop:
        kinds = sizes_of(split_of(runs[0], split), [transform for own in transforms for transform in own])
    together = {'data.batch_size': first.batch_size, 'data.bad_image': first.bad_image,
                'data.workers': first.workers // count, 'data.cache': 0}
    return [[stack.enter_context(loader_of(changed(run.cfg, together), split_of(run, split), transform=transform,
                                           kinds=kinds)) for transform in own]
            for run, own in zip(runs, transforms)]
