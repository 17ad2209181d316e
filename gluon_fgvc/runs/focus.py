"""How much of what speaks for a class lies in the boxes of a data set."""
import numpy as np

from gluon_fgvc.engine.log import progress
from gluon_fgvc.errors import ConfigError
from gluon_fgvc.explain.cam import activation_on_images, coverage, share_inside


def measure_focus(run, image_set, loader):
    """Return how much of the activation of the true class lies in the boxes of a split, as a dict.

    ``share`` is the mean over images, ``area`` what the boxes cover of the images, which indifferent activation has as
    its share, ``images`` how many have an activation and ``without`` how many have none.
    """
    shares, areas, transform = [], [], loader.transform
    with progress(len(image_set), 'focus') as bar:
        for batch in loader.epoch(0):
            images = run.normalize(batch.images.as_in_context(run.ctx))
            maps = activation_on_images(run.method, images, batch.labels)
            for index, values in zip(batch.indices, maps):
                box = transform.box(image_set.boxes[index], image_set.open(index).shape)
                shares.append(share_inside(values, box))
                areas.append(coverage(box, values.shape).mean())
            bar.update(len(batch.indices))
    shares = np.array(shares)
    found = np.isfinite(shares)
    return {'share': float(shares[found].mean()) if found.any() else None, 'area': float(np.mean(areas)),
            'images': int(found.sum()), 'without': int((~found).sum())}


def check_boxes(image_set):
    if image_set.boxes is None:
        raise ConfigError(f"the data set has no boxes for split '{image_set.name}', in which activation could be "
                          'measured; set run.focus to false or leave out --focus')


def in_words(focus):
    without = f", {focus['without']} images without activation" if focus['without'] else ''
    share = 'none' if focus['share'] is None else f"{focus['share']:.4f}"
    return f"activation in the boxes {share}, which cover {focus['area']:.4f}{without}"
