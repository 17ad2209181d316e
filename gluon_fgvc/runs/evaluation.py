"""Evaluate one run on a split."""
from dataclasses import replace

from tqdm import tqdm

from gluon_fgvc import data
from gluon_fgvc.engine.evaluate import evaluation, predict, write_evaluation
from gluon_fgvc.engine.log import progress
from gluon_fgvc.nn import complexity
from gluon_fgvc.runs import pointing_game as game
from gluon_fgvc.runs import views
from gluon_fgvc.runs.build import changed, loader_of, report_bad
from gluon_fgvc.runs.reporting import headline


def evaluate(run, split='test', *, crop=True, pointing_game=None, say=tqdm.write):
    """Evaluate a :class:`Run` on a split, write ``evaluation*.json`` and ``predictions*.csv``, return the summary.

    :param crop: False shows the network whole images instead of their centres, in batches of one size. A classifier
        on the averaged map is then averaged over the whole image.
    :param pointing_game: also play the energy-based pointing game; None does so if ``run.pointing_game`` says so
        and the network itself is evaluated.
    :param say: called with each line of text about it.
    :raises ConfigError: if the images must be cropped or cannot be, or have no boxes for the ``pointing_game``.
    """
    if pointing_game is None:
        play = run.cfg.run.pointing_game and run.exported is None
    else:
        play = pointing_game
    predictions, loader, result = _evaluate(run, split, crop, play)
    report_bad(loader, say)
    write_evaluation(run.folder, predictions, loader.image_set, run.classes, result)
    say(headline(result))
    times = run.files.count_tests()
    if split == 'test' and times > 1:
        say(f'the test split of this run has now been evaluated {times} times, which its report will say; what is '
            'chosen by it is no longer measured by it (choose by --split val)')
    return result


def evaluate_altered(run, split, overrides):
    """Evaluate a :class:`Run` on a split read with other options, and return the summary; nothing is written.

    :param overrides: pairs (dotted key, value) of the section ``data``.
    """
    _, loader, result = _evaluate(replace(run, cfg=changed(run.cfg, overrides)), split)
    report_bad(loader)
    return result


def _evaluate(run, split, crop=True, play=False):
    """Return the predictions, the loader, which is closed, and the summary of one split."""
    image_set, transform = views.split_of(run, split), data.EvalTransform(views.eval_view(run, crop))
    if play:
        game.check_boxes(image_set)
    kinds = None if crop else views.sizes_of(image_set, [transform])
    with loader_of(run.cfg, image_set, transform=transform, kinds=kinds) as loader:
        with progress(len(image_set), split) as bar:
            predictions = predict(*run.scorer, loader, run.contexts, bar,
                                  temperature=run.chosen_by.get('temperature'))
        result = evaluation(predictions, loader, run.classes, run.origin, run.source.groups)
        result['cost'] = _cost(run, transform.output_size)
        name = views.name_of(None, crop, run.exported is not None)
        if name:
            result['views'] = name
        result.update(run.by)
        if play:
            result['pointing_game'] = game.pointing_game(run, loader)
    return predictions, loader, result


def _cost(run, size):
    """Return the parameters of the deployed network, and its multiply-adds on one image where images have one size."""
    net = run.method.deployed()
    cost = {'parameters': complexity.parameters(net)}
    return {**cost, 'multiply_adds': complexity.multiply_adds(net, 3, *size)} if size else cost
