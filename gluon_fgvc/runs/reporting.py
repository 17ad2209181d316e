"""What an evaluation says, in one line and as a page."""
from gluon_fgvc import data
from gluon_fgvc.errors import DataError
from gluon_fgvc.pages import pictures
from gluon_fgvc.pages.look import look
from gluon_fgvc.pages.report import write_report
from gluon_fgvc.run_folder import RunFolder
from gluon_fgvc.runs import pointing_game as game
from gluon_fgvc.runs.build import load_config


def headline(result):
    """Return one line that sums an evaluation up and says which split chose the epoch."""
    tops = ' '.join(f'top-{k} {result[f"top{k}"]:.4f}' for k in (1, 3, 5) if f'top{k}' in result)
    auc = f" ROC AUC {result['roc_auc']:.4f}" if 'roc_auc' in result else ''
    played = result.get('pointing_game')
    return (f"{result['split']}: {tops} mean class {result['mean_class_accuracy']:.4f} loss {result['loss']:.4f}{auc} "
            f"on {result['images']} images ({_origin(result)}{_engine(result)})"
            + (f"; {game.in_words(played)}" if played else ''))


def _engine(result):
    return f", the exported model by {result['engine']}" if 'engine' in result else ''


def _origin(result):
    members, chosen = result.get('members', ()), result['chosen_by']
    whole = 'whole images, ' if (result.get('views') or '').startswith('no_crop') else ''
    if members:
        return (f"{whole}mean of {len(members)} network{'s' * (len(members) > 1)}, {members[0]['views']} "
                f"view{'s' * (members[0]['views'] > 1)} each")
    if chosen['split']:
        return f"{whole}epoch {chosen['epoch'] + 1}, chosen by {chosen['split']} {chosen['metric']}"
    why = '' if result.get('checkpoint') == 'last' else ' (no validation split)'
    return f"{whole}epoch {chosen['epoch'] + 1}, the last{why}"


def report(run):
    """Write the report of a :class:`Run` into its folder and return the path.

    Thumbnails are read as the data set reads its images; the network shows where it looks.
    """
    source, transform = run.source, data.EvalTransform(run.cfg.data.eval)

    def look_at(path, label):
        image = source.read(path)
        return None if image is None else look(run, path, transform(image), label)

    return write_report(run.folder, read=source.read, look=look_at)


def reader_of(folder, data_root=None):
    """Return a function for pages: the name of an image of a run's data set → (H,W,3) uint8 RGB, or None.

    :param data_root: where the data set is now; where it cannot be read at all, names are taken for paths of files.
    """
    cfg = load_config(RunFolder(folder).config, [('data.root', data_root)] if data_root else ())
    try:
        source = data.build(cfg.data)
    except DataError:
        return pictures.read

    def read(name):
        image = source.read(name)
        return pictures.read(name) if image is None else image
    return read
