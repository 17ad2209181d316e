"""Show where a trained network looks: one HTML page with each map of the method beside the photograph.

Of methods that resample images it also shows the sampling points and the sampled images, and gates as bars."""
import sys
from pathlib import Path

import mxnet as mx

from gluon_fgvc import cli, data
from gluon_fgvc.analysis.attention_maps import Row, write_page
from gluon_fgvc.data.search import find_images
from gluon_fgvc.engine import run


def main(argv=None):
    parser = cli.Parser(__doc__, "python tools/visualize.py work_dirs/quickstart/20260101-120000 cells/ 'more/*.png'")
    parser.add_argument('run', metavar='RUN', help='run folder that tools/train.py made')
    parser.add_argument('inputs', metavar='INPUT', nargs='+', help='image, folder of images, or quoted glob')
    parser.add_argument('--out', metavar='FILE', type=Path, help='the page; default: maps.html in the run folder')
    parser.add_argument('--which', default='best', choices=('best', 'last'), help='checkpoint; default: %(default)s')
    parser.add_argument('--limit', metavar='N', type=cli.positive, default=50,
                        help='images at most; default: %(default)s')
    parser.add_argument('--gpus', metavar='ID', help='the GPU to use; an empty string forces the CPU; default: as in '
                                                     'training')
    args = parser.parse_args(argv)

    paths = find_images(args.inputs)
    contexts = run.contexts_of(cli.contexts_setting(args.gpus)) if args.gpus is not None else None
    opened = run.open_run(args.run, args.which, contexts)
    transform = data.TestTransform(opened.cfg.data.test)
    rows = [look(opened, transform, path) for path in paths[:args.limit]]
    out = args.out or opened.folder / 'maps.html'
    write_page(rows, out, title=f'Where {opened.cfg.method.name} on {opened.cfg.backbone.name} looks')
    print(f'{len(rows)} of {len(paths)} images: {out}')


def look(opened, transform, path):
    """Return the :class:`Row` of one image, seen by the network of :class:`~gluon_fgvc.engine.run.Run` ``opened``."""
    image = transform(data.read_image(path))
    batch = opened.normalize(mx.nd.array(image[None], ctx=opened.ctx, dtype='uint8'))       # (1,3,H,W)
    probabilities = mx.nd.softmax(opened.method.net(batch), axis=-1)[0].asnumpy()           # (K,)
    maps = {name: values[0].asnumpy() for name, values in opened.method.maps(batch).items()}
    grids = {name: values[0].asnumpy() for name, values in opened.method.grids(batch).items()}
    shares = {title: {name: values[0].asscalar() for name, values in group.items()}
              for title, group in opened.method.values(batch).items()}
    best = int(probabilities.argmax())
    return Row(Path(path).name, image, maps, opened.classes[best], float(probabilities[best]), grids=grids,
               shares=shares)


if __name__ == '__main__':
    sys.exit(cli.run(main))
