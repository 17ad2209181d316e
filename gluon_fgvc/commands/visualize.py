"""Show where a trained network looks: one HTML page with each map of the method beside the photograph.

Of methods that resample images it also shows the sampling points and the sampled images, of those that divide images
their parts, and gates as bars. With --baseline, the class activation of two networks stands side by side. With
--channels, the page also ranks the channels of a network with attention weights and shows what the first of them
respond to. Of an exported model it shows the maps that the graph gives.
"""
from pathlib import Path

from gluon_fgvc.choices import ENGINES
from gluon_fgvc.commands import cli
from gluon_fgvc.errors import ConfigError

EXTREMES = 10  # images shown at either end


def main(argv=None):
    parser = cli.Parser('fgvc visualize', __doc__, "work_dirs/quickstart/20260101-120000 cells/ 'more/*.png'")
    parser.add_argument('run', metavar='MODEL', type=Path, help='run folder, or folder of an exported model')
    parser.add_argument('inputs', metavar='INPUT', nargs='*', default=[], help='image, folder or quoted glob')
    parser.add_argument('--split', choices=('test', 'val', 'train'), help="images of a run's data instead of INPUT")
    parser.add_argument('--baseline', metavar='RUN', help='another run on the same classes, to compare with')
    parser.add_argument('--out', metavar='FILE', type=Path, help='the page; default: maps.html in MODEL')
    parser.add_argument('--sheet', metavar='FILE', type=Path,
                        help='also one picture with a line for each image, for papers and slides; .png or .jpg')
    cli.add_data_root(parser)
    parser.add_argument('--which', default='best', choices=('best', 'last'), help='checkpoint; default: %(default)s')
    parser.add_argument('--limit', metavar='N', type=cli.positive, default=50,
                        help='images at most, of a split evenly spread; default: %(default)s')
    parser.add_argument('--gpus', metavar='ID', help='the GPU to use; an empty string forces the CPU; default: as in '
                                                     'training')
    parser.add_argument('--channels', metavar='N', type=cli.positive, help='rank channels by attention, and show the '
                        'images that activate the first N of a layer most and least, and what they are maximised by')
    parser.add_argument('--engine', choices=ENGINES, help='what runs an exported model; default: auto, the fastest')
    parser.add_argument('--layer', metavar='NAME', help='that layer, e.g. body.stage4.2.conv1; default: the third last '
                                                        'convolution')
    parser.add_argument('--overwrite', action='store_true', help='replace what --out and --sheet name')
    args = parser.parse_args(argv)
    cli.check_new(args.overwrite, args.out, args.sheet)
    if bool(args.inputs) == bool(args.split):
        raise ConfigError('give images, folders or globs, or --split')

    from gluon_fgvc.data.search import find_images
    from gluon_fgvc.deploy.metadata import METADATA
    from gluon_fgvc.pages.contact_sheet import KINDS
    from gluon_fgvc.pages.maps import write_page, write_sheet
    from gluon_fgvc.run_folder import RunFolder
    if args.sheet and args.sheet.suffix.lower() not in KINDS:
        raise ConfigError(f"--sheet '{args.sheet}' must end in .png, .jpg or .jpeg")
    paths = find_images(args.inputs) if args.inputs else None
    exported = (args.run / METADATA).is_file()
    title, rows, sections = seen_by_export(args, paths) if exported else seen_by_run(args, paths)
    out = args.out or RunFolder(args.run).maps
    write_page(rows, out, title, sections)
    if args.sheet:
        write_sheet(rows, args.sheet)
    print(f"{len(rows)} {f'of {len(paths)} ' if paths else ''}images: {out}{f', {args.sheet}' if args.sheet else ''}")


def seen_by_export(args, paths):
    """Return the title, the rows and further sections of the page of an exported model."""
    from gluon_fgvc.runs import exported
    for flag in ('split', 'baseline', 'channels', 'gpus', 'data_root'):
        if getattr(args, flag) is not None:
            raise ConfigError(f"--{flag.replace('_', '-')} is for a run folder; '{args.run}' is an exported model")
    model, rows = exported.look(args.run, args.engine or 'auto', paths[:args.limit])
    print(f'engine: {model.why}')
    return f'Where {model.metadata.method}, exported, looks', rows, ()


def seen_by_run(args, paths):
    """Return the same of a run."""
    from gluon_fgvc import data, runs
    from gluon_fgvc.pages.look import compared
    if args.engine:
        raise ConfigError(f"--engine {args.engine} is for an exported model; '{args.run}' is a run folder, whose "
                          'network is asked itself')
    contexts = runs.contexts_from(cli.contexts_setting(args.gpus)) if args.gpus is not None else None
    opened = runs.open_run(args.run, args.which, contexts, data_root=args.data_root)
    baseline = runs.open_run(args.baseline, args.which, opened.contexts) if args.baseline else None
    if baseline and baseline.classes != opened.classes:
        raise ConfigError(f"'{args.baseline}' and '{args.run}' have other classes; a baseline needs the same")
    transform = data.EvalTransform(opened.cfg.data.eval)
    if paths is not None:
        photographs = ((Path(path).name, data.read_image(path), None, None) for path in paths[:args.limit])
    else:
        photographs = examples(opened, args.split, args.limit, transform)
    rows = [compared(opened, name, transform(image), label, box, baseline) for name, image, label, box in photographs]
    sections = look_at_channels(opened, rows, args.channels, args.layer) if args.channels else ()
    return f'Where {opened.cfg.method.name} on {opened.cfg.backbone.name} looks', rows, sections


def examples(opened, split, limit, transform):
    """Yield (name, image, name of its class, box in the prepared image or None) of images of a split."""
    import numpy as np
    images = getattr(opened.source, split)
    if images is None:
        raise ConfigError(f'there is no {split} split: data.val_fraction is 0 and the data set brings none')
    for index in np.unique(np.linspace(0, len(images) - 1, min(limit, len(images))).astype(int)):
        image = images.read(index)
        box = None if images.boxes is None else transform.box(images.boxes[index], image.shape)
        yield Path(images.paths[index]).name, image, opened.classes[images.labels[index]], box


def look_at_channels(opened, rows, count, layer=None):
    """Return the sections of the page on the channels of ``layer``; ``rows`` are those of the images to show."""
    import numpy as np

    from gluon_fgvc.explain import activation_maximization, channels
    from gluon_fgvc.nn import attention_convolutions
    from gluon_fgvc.pages.channels import channel_section, histogram_section, ranking_section
    net = opened.method.net
    if not attention_convolutions(net):
        raise ConfigError(f"--channels: '{opened.folder}' has no attention weights; method attention_scaled has them")
    layer, scores = layer or channels.default_layer(net), channels.ranking(net)
    if layer not in scores:
        channels.block_of(net, layer)  # names the nearest if there is no such layer
        raise ConfigError(f"--layer '{layer}' is no convolution with attention weights")
    batches = (opened.batch_of(row.image) for row in rows)
    norms = channels.responses(net, layer, batches)                                         # (images,C)
    sections = [histogram_section(channels.histograms(opened.folder)), ranking_section(scores)]
    for channel in channels.first_alive(scores[layer], norms, count):
        order = np.argsort(-norms[:, channel], kind='stable')
        most, least = ([(rows[i].name, rows[i].image, norms[i, channel]) for i in part[:EXTREMES]]
                       for part in (order, order[::-1]))
        maximised = [(blur, activation_maximization.maximise(
            net, layer, channel, min(rows[0].image.shape[:2]), opened.normalize.mean, opened.normalize.std,
            blur=blur)[0]) for blur in activation_maximization.BLURS]
        sections.append(channel_section(layer, channel, scores[layer][channel], maximised, most, least))
    return sections
