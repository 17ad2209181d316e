"""Habitats: a texture behind each object that tells its class while training, and tells nothing when tested.

A network that reads the habitat instead of the object is right as often as the habitat is, and no more often than
chance in another. Textures are gratings, one direction for each class.
"""
import numpy as np

WAVELENGTH = 6.0  # pixels
BRIGHTEST = 110   # of 255, unless the data set says otherwise


class Habitats:
    """Which texture lies behind each image of a split; a function of (seed, i) alone.

    :param labels: (N,) class of each image.
    :param classes: K.
    :param fraction: of the images whose texture is that of their class; the others have any of the K.
    :param seed: tuple of non-negative whole numbers.
    :param brightest: value of the texture's ridges, up to 255; its valleys are 0.
    """

    def __init__(self, labels, classes, fraction, seed, brightest=BRIGHTEST):
        self.labels, self.classes, self.fraction, self.seed = labels, classes, fraction, seed
        self.brightest = brightest

    def place(self, index):
        """Return the class whose texture image ``index`` has, and the phase of the grating, in [0, 1)."""
        stream = np.random.SeedSequence(self.seed, spawn_key=(index,))  # apart from those of (seed, index) and of runs
        own, other, phase = np.random.Generator(np.random.PCG64(stream)).random(3)
        return int(self.labels[index]) if own < self.fraction else int(other * self.classes), phase

    def draw(self, index, side):
        """Return the texture of image ``index``, (side,side) uint8."""
        kind, phase = self.place(index)
        angle = np.pi * kind / self.classes
        row, column = np.mgrid[:side, :side]
        wave = np.sin(2 * np.pi * ((np.cos(angle) * column + np.sin(angle) * row) / WAVELENGTH + phase))
        return (self.brightest * (1 + wave) / 2).astype(np.uint8)
