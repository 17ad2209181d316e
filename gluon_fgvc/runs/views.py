"""Which images an evaluation shows a network, and how they are prepared."""
from gluon_fgvc import data
from gluon_fgvc.engine.log import progress
from gluon_fgvc.errors import ConfigError
from gluon_fgvc.runs.build import changed
from gluon_fgvc.runs.folder import check_same_split


def split_of(run, split):
    """Return the images of ``split`` of a :class:`Run`.

    :raises ConfigError: if there are none.
    :raises CheckpointError: if it is a split that training began with, and is another one now.
    """
    image_set = getattr(run.source, split)
    if image_set is None:
        raise ConfigError(f"there is no {split} split: data.val_fraction is 0 and the data set brings none")
    if split != 'test':
        check_same_split(run.folder, data.split_record(run.source), (split,))
    return image_set


def eval_view(run, crop=True):
    """Return ``data.eval`` of a :class:`Run`, without its crop unless ``crop``.

    :raises ConfigError: if the images must be cropped, or are not.
    """
    if crop:
        return run.cfg.data.eval
    if run.method.square_images:
        raise ConfigError(f"method '{run.cfg.method.name}' takes square images of one size: they must be cropped")
    if not run.cfg.data.eval.crop:
        raise ConfigError('data.eval.crop is not set: images are seen whole already')
    return changed(run.cfg, {'data.eval.crop': None}).data.eval


def sizes_of(image_set, transforms):
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


def name_of(views, crop, exported=False):
    """Return what files and figures are marked with: None for the single view of the centre by the run's network."""
    words = [(not crop, 'no_crop'), (views, views), (exported, 'exported')]
    return '_'.join(word for wanted, word in words if wanted) or None
