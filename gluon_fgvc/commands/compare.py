"""Compare two models on the same images: accuracies, where only one is right, McNemar's exact test.

The test is of these two sets of predictions. It says nothing of other seeds: for those, train several and
compare mean and standard deviation with fgvc study.
"""
from gluon_fgvc.commands import cli
from gluon_fgvc.errors import ConfigError


def main(argv=None):
    parser = cli.Parser('fgvc compare', __doc__, 'work_dirs/a/20260101-120000 work_dirs/b/20260101-130000')
    parser.add_argument('predictions', nargs='*', metavar='RUN | FILE',
                        help='two run folders, or two predictions.csv that fgvc evaluate wrote')
    parser.add_argument('--split', default='test', choices=('test', 'val', 'train'),
                        help='of run folders; default: %(default)s')
    args = parser.parse_args(argv)
    if len(args.predictions) != 2:
        raise ConfigError(f'give two run folders or files, not {len(args.predictions)}: the test compares one pair of '
                          'models; for several seeds compare the means of fgvc study')

    from gluon_fgvc.engine.statistics import mcnemar, wilson
    from gluon_fgvc.studies.pairing import pair, read_predictions
    first, second = (read_predictions(path, args.split) for path in args.predictions)
    counts = pair(first, second)
    for name, path, correct in zip('AB', args.predictions, counts.correct):
        low, high = wilson(correct, counts.images)
        print(f'{name}  {correct / counts.images:7.2%}  (95 % interval {low:.2%} to {high:.2%})  {correct:,} of '
              f'{counts.images:,}  {path}')
    print(f'both right {counts.both:,}, only A {counts.only_first:,}, only B {counts.only_second:,}, both wrong '
          f'{counts.neither:,}')
    p = mcnemar(counts.only_first, counts.only_second)
    print(f"McNemar's exact test: p = {p:.3g}" + (
        '; a difference as large or larger would be that rare if both erred equally often' if p < 0.05 else
        '; such a difference is no surprise if both err equally often'))
    print('This compares two trained models, not two methods: other seeds may differ (fgvc study).')
