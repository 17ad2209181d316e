"""Compare two models on the same images, or two methods by several pairs of runs: accuracies, differences, tests.

Of one pair: where only one is right, and McNemar's exact test. That is a test of these two models; it says nothing of
other seeds. With --with, A1 A2 … are paired with B1 B2 … in order, e.g. seed by seed or fold by fold: the mean
difference, its 95 % interval and a paired test, corrected where the runs differ in their images.
"""
from gluon_fgvc.commands import cli
from gluon_fgvc.errors import ConfigError


def main(argv=None):
    parser = cli.Parser('fgvc compare', __doc__, 'work_dirs/a/20260101-120000 work_dirs/b/20260101-130000')
    parser.add_argument('predictions', nargs='*', metavar='RUN | FILE',
                        help='run folders, or predictions.csv that fgvc evaluate wrote: two, or any --with as many')
    parser.add_argument('--with', dest='others', nargs='+', metavar='RUN | FILE',
                        help='as many, which those before are compared with, each with the one in its place')
    parser.add_argument('--split', default='test', choices=('test', 'val', 'train'),
                        help='of run folders; default: %(default)s')
    args = parser.parse_args(argv)
    from gluon_fgvc.studies.pairing import pair, read_predictions, share_tested
    pairs = pairs_of(args.predictions, args.others)
    read = [[read_predictions(path, args.split) for path in both] for both in pairs]
    counts = [pair(*both) for both in read]
    if len(pairs) == 1:
        print('\n'.join(models(*pairs, *counts)))
    else:
        share = share_tested([path for path, _ in pairs], [first for first, _ in read], args.split)
        print('\n'.join(methods(pairs, counts, share)))


def pairs_of(paths, others):
    """Return the pairs of paths that a command line means."""
    if others is None:
        if len(paths) != 2:
            raise ConfigError(f'give two run folders or files, not {len(paths)}: the test compares one pair of models; '
                              'several pairs are A1 A2 … --with B1 B2 …')
        return [tuple(paths)]
    if len(paths) != len(others):
        raise ConfigError(f'{len(paths)} before --with and {len(others)} behind it: give as many of either, in order')
    cli.check_distinct([*paths, *others])
    return list(zip(paths, others))


def models(paths, counts):
    """Return what one pair says, as lines."""
    from gluon_fgvc.engine.statistics import mcnemar, wilson
    lines = []
    for name, path, correct in zip('AB', paths, counts.correct):
        low, high = wilson(correct, counts.images)
        lines.append(f'{name}  {correct / counts.images:7.2%}  (95 % interval {low:.2%} to {high:.2%})  {correct:,} of '
                     f'{counts.images:,}  {path}')
    p = mcnemar(counts.only_first, counts.only_second)
    return [*lines, f'both right {counts.both:,}, only A {counts.only_first:,}, only B {counts.only_second:,}, both '
            f'wrong {counts.neither:,}', f"McNemar's exact test: p = {p:.3g}" + (
                '; a difference as large or larger would be that rare if both erred equally often' if p < 0.05 else
                '; such a difference is no surprise if both err equally often'),
            'This compares two trained models, not two methods: other seeds may differ (--with, fgvc study).']


def methods(pairs, counts, share):
    """Return what several pairs say, as lines.

    :param share: as ``test_share`` of :func:`gluon_fgvc.studies.significance.paired`.
    """
    from gluon_fgvc.engine.statistics import mcnemar
    from gluon_fgvc.studies.significance import paired
    lines, differences = [], []
    for (first, second), count in zip(pairs, counts):
        a, b = (correct / count.images for correct in count.correct)
        differences.append(a - b)
        lines.append(f'A {a:7.2%}  B {b:7.2%}  A - B {100 * (a - b):+6.2f} points  only A {count.only_first:,}, '
                     f'only B {count.only_second:,}, McNemar p = '
                     f'{mcnemar(count.only_first, count.only_second):.3g}  {first} | {second}')
    result = paired(differences, share)
    mean = f'A - B: {100 * result.mean:+.2f} points on average over {result.runs} pairs'
    spread = f'{mean}, sd {100 * result.sd:.2f}'
    if share is None:
        return [*lines, spread, 'No interval: the pairs differ in their images, and how many each was trained on is '
                'not known; give run folders, which say it in split.json']
    if result.p is None:
        return [*lines, f'{mean}, all of them alike: no spread to judge it by']
    return [*lines, f'{spread}, 95 % interval {100 * result.low:+.2f} to {100 * result.high:+.2f}',
            f'{result.test[0].upper()}{result.test[1:]}: p = {result.p:.3g}']
