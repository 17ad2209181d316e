"""Show where a trained network looks: one HTML page with each map of the method beside the photograph.

Of methods that resample images it also shows the sampling points and the sampled images, and gates as bars. With
--channels, the page also ranks the channels of a network with attention weights and shows what the first of them
respond to.
"""
import sys
from pathlib import Path

import mxnet as mx
import numpy as np

from gluon_fgvc import cli, data
from gluon_fgvc.analysis import activation_maximization, channels
from gluon_fgvc.analysis.attention_maps import Row, write_page
from gluon_fgvc.data.search import find_images
from gluon_fgvc.engine import run
from gluon_fgvc.errors import ConfigError
from gluon_fgvc.nn import attention_convolutions

EXTREMES = 10  # images shown at either end


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
    parser.add_argument('--channels', metavar='N', type=cli.positive, help='rank channels by attention, and show the '
                        'images that activate the first N of a layer most and least, and what they are maximised by')
    parser.add_argument('--layer', metavar='NAME', help='that layer, e.g. body.stage4.2.conv1; default: the third last '
                                                        'convolution')
    args = parser.parse_args(argv)

    paths = find_images(args.inputs)
    contexts = run.contexts_of(cli.contexts_setting(args.gpus)) if args.gpus is not None else None
    opened = run.open_run(args.run, args.which, contexts)
    transform = data.TestTransform(opened.cfg.data.test)
    rows = [look(opened, transform, path) for path in paths[:args.limit]]
    out = args.out or opened.folder / 'maps.html'
    sections = look_at_channels(opened, rows, args.channels, args.layer) if args.channels else ()
    write_page(rows, out, f'Where {opened.cfg.method.name} on {opened.cfg.backbone.name} looks', sections)
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


def look_at_channels(opened, rows, count, layer=None):
    """Return the sections of the page on the channels of ``layer``; ``rows`` are those of the images to show."""
    net = opened.method.net
    if not attention_convolutions(net):
        raise ConfigError(f"--channels: '{opened.folder}' has no attention weights; method attention_scaled has them")
    layer, scores = layer or channels.default_layer(net), channels.ranking(net)
    if layer not in scores:
        channels.block_of(net, layer)  # names the nearest if there is no such layer
        raise ConfigError(f"--layer '{layer}' is no convolution with attention weights")
    batches = (opened.normalize(mx.nd.array(row.image[None], ctx=opened.ctx, dtype='uint8')) for row in rows)
    norms = channels.responses(net, layer, batches)                                         # (images,C)
    sections = [channels.histogram_section(channels.histograms(opened.folder)), channels.ranking_section(scores)]
    for channel in channels.first_alive(scores[layer], norms, count):
        order = np.argsort(-norms[:, channel], kind='stable')
        most, least = ([(rows[i].name, rows[i].image, norms[i, channel]) for i in part[:EXTREMES]]
                       for part in (order, order[::-1]))
        maximised = [(blur, activation_maximization.maximise(
            net, layer, channel, min(rows[0].image.shape[:2]), opened.normalize.mean, opened.normalize.std,
            blur=blur)[0]) for blur in activation_maximization.BLURS]
        sections.append(channels.channel_section(layer, channel, scores[layer][channel], maximised, most, least))
    return sections


if __name__ == '__main__':
    sys.exit(cli.run(main))
