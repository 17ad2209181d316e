"""Where a network samples an image, drawn: the points on the photograph, and the image that they give."""
import cv2
import numpy as np

POINTS = 32          # points on a side of the drawing; a network has some hundreds
COLOUR = (30, 90, 255)


def sampled(image, grid):
    """Return what bilinear sampling at ``grid`` gives: uint8 RGB (O,O,3), black outside of the photograph.

    :param image: uint8 RGB (H,W,3).
    :param grid: (2,O,O), x before y, -1 and 1 at the centres of the outermost pixels.
    """
    x, y = _pixels(image, grid)
    return cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)


def points(image, grid, side=448):
    """Return the photograph in paler colours, ``side`` pixels high, with the points of ``grid`` as dots (TASN, Fig. 4).

    Of more than POINTS x POINTS points, evenly spread ones are drawn. For the arguments see :func:`sampled`.
    """
    step = -(-grid.shape[1] // POINTS)
    scale = side / image.shape[0]
    x, y = ((values[step // 2::step, step // 2::step] + 0.5) * scale - 0.5 for values in _pixels(image, grid))
    canvas = cv2.resize(image, (round(image.shape[1] * scale), side), interpolation=cv2.INTER_LINEAR)
    canvas = cv2.addWeighted(canvas, 0.6, np.full_like(canvas, 255), 0.4, 0)
    shift = 4  # fractional bits, so that dots lie where the points do and not on whole pixels
    places = np.stack([x.ravel(), y.ravel()], axis=1)
    # A window can lie millions of pixels away, where there is nothing to draw and no integer to draw it with.
    for centre in places[((places > -2) & (places < np.array(canvas.shape[1::-1]) + 2)).all(axis=1)]:
        cv2.circle(canvas, tuple(int(round(value * 2 ** shift)) for value in centre), int(1.8 * 2 ** shift), COLOUR, -1,
                   cv2.LINE_AA, shift)
    return canvas


def _pixels(image, grid):
    """Return float32 x and y (O,O) in pixels."""
    grid = np.asarray(grid, 'float32')
    if grid.ndim != 3 or grid.shape[0] != 2 or not np.isfinite(grid).all():
        raise ValueError(f'a grid must be finite and of shape (2,O,O), not {grid.shape}')
    return ((grid + 1) / 2 * np.array([image.shape[1] - 1, image.shape[0] - 1], 'float32')[:, None, None])
