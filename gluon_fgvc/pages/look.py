"""What a trained network makes of one image, ready to be drawn."""
from gluon_fgvc.explain.cam import activation_on_images, energy_inside
from gluon_fgvc.pages.charts import percent
from gluon_fgvc.pages.maps import Row


def look(run, name, image, label=None):
    """Return the :class:`~gluon_fgvc.pages.maps.Row` of ``image`` by the method's explanation.

    :param run: an open :class:`~gluon_fgvc.runs.Run`.
    :param image: (H,W,3) uint8 RGB, prepared as for testing.
    :param label: the name of its class, where it is known.
    """
    method, batch = run.method, run.batch_of(image)
    probabilities = run.probabilities(batch)[0].asnumpy()
    best = int(probabilities.argmax())
    found = method.explain(batch)
    return Row(name, image, _first(found.maps), run.classes[best], float(probabilities[best]), label,
               grids=_first(found.grids), regions=_first(found.regions),
               shares={title: {key: values[0].asscalar() for key, values in group.items()}
                       for title, group in found.fractions.items()})


def compared(opened, name, image, label, box, baseline):
    """Return the row of ``image``, prepared, seen by the run ``opened`` and, where there is one, by ``baseline``."""
    row = look(opened, name, image, label)
    if not baseline:
        return row
    others = baseline.probabilities(baseline.batch_of(image))[0].asnumpy()
    choice, best = int(others.argmax()), opened.classes.index(row.predicted)
    title = f"{baseline.cfg.method.name} ({baseline.classes[choice]}, {percent(float(others[choice]))})"
    pair = {f'baseline {title}': _activation_of(baseline, image, best),
            opened.cfg.method.name: _activation_of(opened, image, best)}
    maps = {f'class activation, {key}{_inside(values, box)}': values for key, values in pair.items()}
    # The method's own class activation is the same map, coarser.
    return row._replace(maps={**maps, **{key: row.maps[key] for key in row.maps if key != 'class activation'}})


def _activation_of(opened, image, index):
    """Return what speaks for class ``index`` in ``image``, where it lies: (H,W)."""
    return activation_on_images(opened.method, opened.batch_of(image), [index])[0]


def _inside(values, box):
    return '' if box is None or not values.any() else f', {percent(energy_inside(values, box))} in the box'


def _first(arrays):
    return {name: values[0].asnumpy() for name, values in arrays.items()}
