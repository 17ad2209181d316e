"""Export the network of a run as graph, parameters and description, and prove that they compute the same.

The files are read back and compared with the network on random and on real images; nothing is left
behind if they differ. Any MXNet program reads them; fgvc predict and gluon_fgvc.Predictor prepare the
images as well. --format adds ONNX, with float32 or float16 weights, and int8; what each of them computes and costs is
measured on the validation split and written to certificate.json and certificate.html. MODEL.md says what the model is.
"""
import warnings
from pathlib import Path

from gluon_fgvc.choices import CALIBRATIONS, FORMATS
from gluon_fgvc.commands import cli
from gluon_fgvc.errors import DataError
from gluon_fgvc.files import hash_of_file

IMAGES = 16


def main(argv=None):
    parser = cli.Parser('fgvc export', __doc__, 'work_dirs/quickstart/20260101-120000 --bake-preprocessing')
    parser.add_argument('run', metavar='RUN', type=Path, help='run folder that fgvc train made')
    parser.add_argument('--out', metavar='DIR', type=Path, help='default: RUN/export')
    parser.add_argument('--bake-preprocessing', action='store_true',
                        help='the graph takes pixels (N,H,W,3), 0 to 255, instead of normalised images (N,3,H,W)')
    parser.add_argument('--bake-softmax', action='store_true', help='the graph returns probabilities instead of logits')
    parser.add_argument('--uncalibrated', action='store_true',
                        help='leave the logits as they are; default: divided by the temperature that validation fitted')
    parser.add_argument('--format', nargs='+', default=[], choices=FORMATS,
                        help='also write the network as: %(choices)s (needs the packages onnx and onnxruntime)')
    parser.add_argument('--int8-loss', metavar='POINTS', type=float, default=1.0,
                        help='the largest loss of accuracy with which int8 is written; default: %(default)g')
    parser.add_argument('--reduced-range', action='store_true',
                        help='int8 weights of 7 bits, for processors without VNNI')
    parser.add_argument('--int8-calibration', choices=CALIBRATIONS, default='minmax',
                        help='what int8 takes from training images as the range of activations; default: %(default)s')
    parser.add_argument('--images', metavar='INPUT', nargs='+',
                        help='images, folders or quoted globs to compare on instead of the test split')
    cli.add_data_root(parser)
    parser.add_argument('--which', default='best', choices=('best', 'last'), help='checkpoint; default: %(default)s')
    parser.add_argument('--overwrite', action='store_true', help='replace an exported model')
    args = parser.parse_args(argv)

    from gluon_fgvc import deploy, runs
    from gluon_fgvc.deploy import formats
    from gluon_fgvc.runs import certificate, conversion, model_card
    if args.format:
        formats.require()
    if 'int8' in args.format and not args.reduced_range and not conversion.has_vnni():
        warnings.warn('this processor has no VNNI, and without it sums of 8-bit products saturate: int8 may lose '
                      'several points here that it keeps elsewhere; --reduced-range avoids it')
    opened = runs.open_run(args.run, args.which, runs.contexts_from('cpu0'), data_root=args.data_root)
    if args.format:
        opened.source  # what the formats are judged by: if it is gone, tell before anything is written  # noqa: B018
    cfg, images = opened.cfg, real_images(opened.cfg, args.images)
    folder = args.out or opened.files.export
    exported = deploy.export(
        opened.method.deployed(), folder, classes=opened.classes, eval_view=cfg.data.eval,
        input_size=images[0].shape[:2], mean=opened.normalize.mean, std=opened.normalize.std, method=cfg.method.name,
        source={'run': args.run.resolve().name, 'checkpoint': args.which, 'epoch': opened.epoch,
                'backbone': cfg.backbone.name, 'config_sha256': hash_of_file(opened.files.config),
                **({'widths': opened.widths} if opened.widths else {})},
        temperature=None if args.uncalibrated else opened.temperature, bake_preprocessing=args.bake_preprocessing,
        bake_softmax=args.bake_softmax, images=images, overwrite=args.overwrite)
    print(calibration(opened, args.uncalibrated))
    for name, entry in exported.files.items():
        print(f"{entry['sha256']}  {entry['bytes']:>11,} bytes  {name}")
    print(f'largest difference from the network: {exported.random_difference:.3g} on random images, '
          f'{exported.image_difference:.3g} on {exported.images} real ones')
    formats.forget(folder)
    conversion.convert(opened, folder, sorted(set(args.format), key=FORMATS.index), images,
                       conversion.Int8(args.int8_loss, args.reduced_range, args.int8_calibration))
    certified = certificate.certify(opened, folder, int8_loss=args.int8_loss) if args.format else None
    if certified:
        print(certificate.summary(certified))
    if not model_card.write(opened, folder, certified):
        print(f'{model_card.MODEL_CARD} is not of an export and stays as it is')
    if certified:
        certificate.check(certified)
    print(f'exported to {folder}')


def calibration(opened, left_raw):
    """Return in words what became of the probabilities of an opened run."""
    if left_raw:
        return 'probabilities are not calibrated, as asked'
    if opened.temperature:
        return f'probabilities are calibrated: logits divided by {opened.temperature:.4g}, fitted on validation'
    fitted = opened.chosen_by.get('temperature')
    return ('probabilities are not calibrated: ' + (
        'no validation split has fitted a temperature for this checkpoint' if fitted is None else
        f'validation makes no use of a temperature ({fitted:.3g} is the end of its range)'))


def real_images(cfg, inputs=None):
    """Return up to ``IMAGES`` prepared images, uint8 RGB (H,W,3), of ``inputs`` or of the test split.

    Those that cannot be read are left out.

    :raises DataError: if that leaves none.
    """
    import numpy as np

    from gluon_fgvc import data
    from gluon_fgvc.data.search import find_images
    try:
        if inputs:
            paths = find_images(inputs)
            image_set = data.ImageSet('images', paths, np.zeros(len(paths), np.int64))
        else:
            image_set = data.build(cfg.data).test
    except DataError as error:
        raise DataError(str(error) if inputs else f'{error} (--images names other images to compare on)') from None
    transform, images, reason = data.EvalTransform(cfg.data.eval), [], None
    # Spread over the whole list, which is often sorted by class.
    for i in np.unique(np.linspace(0, len(image_set) - 1, IMAGES).astype(int)):
        try:
            images.append(transform(image_set.read(i), None))
        except DataError as error:
            reason = error
    if not images:
        raise DataError(f'no image to compare on can be used; the last: {reason}')
    return images
