"""What a trained network makes of one image, ready to be drawn."""
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


def _first(arrays):
    return {name: values[0].asnumpy() for name, values in arrays.items()}
