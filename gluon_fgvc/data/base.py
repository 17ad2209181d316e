"""What a data set is once it has been read: lists of files with labels, nothing decoded."""
from dataclasses import dataclass, replace
from typing import List, Optional, Tuple

import numpy as np


@dataclass(frozen=True)
class ImageSet:
    """One split: N image files with their classes."""

    name: str                             # 'train', 'val' or 'test'
    paths: List[str]                      # N files
    labels: np.ndarray                    # (N,) int64 class indices
    targets: Optional[np.ndarray] = None  # (N,K) float32 class probabilities, used instead of labels in training
    strata: Optional[np.ndarray] = None   # (N,) what to stratify by; None means the labels

    def __len__(self):
        return len(self.paths)

    def subset(self, indices, name=None):
        """Return the images at ``indices`` (n,), in that order."""
        def rows(values):
            return None if values is None else values[indices]
        return replace(self, name=name or self.name, paths=[self.paths[i] for i in indices],
                       labels=self.labels[indices], targets=rows(self.targets), strata=rows(self.strata))


@dataclass(frozen=True)
class Source:
    """A data set: class names and its splits; ``val`` is None where there is none."""

    classes: Tuple[str, ...]
    train: ImageSet
    test: ImageSet
    val: Optional[ImageSet] = None
