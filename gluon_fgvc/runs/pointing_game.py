"""The energy-based pointing game: how much of what speaks for a class lies in the boxes of a data set.

Wang et al., Score-CAM (CVPR Workshops 2020), Sec. 4.3: the energy of the map inside the box over that of the whole map.
"""
import numpy as np

from gluon_fgvc.engine.log import progress
from gluon_fgvc.errors import ConfigError
from gluon_fgvc.explain.cam import activation_on_images, coverage, energy_inside


def pointing_game(run, loader):
    """Return how much of the activation of the true class lies in the boxes of the images of ``loader``, as a dict.

    ``energy`` is the mean over images of the fraction inside, ``area`` what the boxes cover of the images, which is the
    energy of indifferent activation, ``images`` how many have an activation and ``without`` how many have none.
    """
    energies, areas, image_set, transform = [], [], loader.image_set, loader.transform
    with progress(len(image_set), 'pointing game') as bar:
        for batch in loader.epoch(0):
            images = run.normalize(batch.images.as_in_context(run.ctx))
            maps = activation_on_images(run.method, images, batch.labels)
            for index, values in zip(batch.indices, maps):
                box = transform.box(image_set.boxes[index], image_set.open(index).shape)
                energies.append(energy_inside(values, box))
                areas.append(coverage(box, values.shape).mean())
            bar.update(len(batch.indices))
    energies = np.array(energies)
    found = np.isfinite(energies)
    return {'energy': float(energies[found].mean()) if found.any() else None, 'area': float(np.mean(areas)),
            'images': int(found.sum()), 'without': int((~found).sum())}


def check_boxes(image_set):
    """Raise ConfigError unless the images have boxes."""
    if image_set.boxes is None:
        raise ConfigError(f"the data set has no boxes for split '{image_set.name}', in which activation could be "
                          'measured; set run.pointing_game to false or leave out --pointing-game')


def in_words(result):
    """Return what :func:`pointing_game` found as a part of a sentence."""
    without = f", {result['without']} images without activation" if result['without'] else ''
    energy = 'none' if result['energy'] is None else f"{result['energy']:.4f}"
    return f"activation in the boxes {energy}, which cover {result['area']:.4f}{without}"
