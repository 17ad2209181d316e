"""``model.json``: what an exported model is, how an image is prepared for it and what comes out.

:func:`gluon_fgvc.deploy.export` writes it, :class:`gluon_fgvc.deploy.Predictor` reads it, and so can any other program.
"""
import hashlib
import json
import os
import warnings
from dataclasses import dataclass, field
from typing import Mapping, Optional, Tuple

from gluon_fgvc.config import EvalView
from gluon_fgvc.errors import CheckpointError
from gluon_fgvc.files import write_atomically

FORMAT = 1
SYMBOL, PARAMETERS, METADATA = 'model-symbol.json', 'model-0000.params', 'model.json'
INPUT = 'data'  # name of the graph's input
SIGNATURE = 'sha256'  # key of the hash that the description carries of itself
RESIZE_RULE = ('resize: the new shorter side, the longer one rounded down, or [height, width]; area averaging to '
               'shrink, bilinear interpolation to enlarge (INTER_AREA, INTER_LINEAR of OpenCV); then crop: side of '
               'the centre crop')
OUTPUTS = ('logits', 'probabilities')
CALIBRATION_RULE = 'the graph divides its logits by the temperature; its output needs no further division'
_EARLIER_OUTPUTS = {'scores': 'logits'}  # as earlier versions called them


@dataclass(frozen=True)
class Metadata:
    """The description of an exported model; values as in the file."""

    classes: Tuple[str, ...]
    size: Tuple[int, int]               # height and width in pixels of the images of the check
    mean: Tuple[float, ...]             # RGB on [0, 1]
    std: Tuple[float, ...]
    view: EvalView                      # how an image is prepared before it is normalised
    takes_pixels: bool = False          # the graph takes (N,H,W,3), 0 to 255; else normalised images (N,3,H,W)
    flexible: bool = True               # the graph takes images of other sizes
    output: str = 'logits'              # of OUTPUTS
    temperature: Optional[float] = None  # the graph divides its logits by it; None: not calibrated
    method: str = ''
    source: Mapping = field(default_factory=dict)    # where the network comes from
    versions: Mapping = field(default_factory=dict)  # of what wrote it
    files: Mapping = field(default_factory=dict)     # name → {'bytes': …, 'sha256': …}
    input_name: str = INPUT             # name of the graph's input
    proof: Optional[Tuple] = None       # (2,K), outputs for engines.proof_images(size); None of earlier versions

    def shape(self, count, height, width):
        """Return the shape of ``count`` images as the graph takes them."""
        return (count, height, width, 3) if self.takes_pixels else (count, 3, height, width)

    def tree(self):
        """Return the content of ``model.json``."""
        any_size = (None, None) if self.flexible else self.size
        return {
            'format': FORMAT,
            'classes': list(self.classes),
            'input': {
                'name': self.input_name,
                'layout': 'NHWC' if self.takes_pixels else 'NCHW',
                'shape': list(self.shape(None, *any_size)),
                'exported_at': list(self.shape(1, *self.size)),
                'flexible': self.flexible,
                'dtype': ['uint8', 'float32'] if self.takes_pixels else ['float32'],
                'values': 'RGB, 0 to 255' if self.takes_pixels else 'RGB, (pixel / 255 - mean) / std',
            },
            'mean': list(self.mean),
            'std': list(self.std),
            'resize': {'resize': self.view.resize, 'crop': self.view.crop, 'rule': RESIZE_RULE},
            'output': self.output,
            'calibration': self.temperature and {'temperature': self.temperature, 'rule': CALIBRATION_RULE},
            'method': self.method,
            'source': dict(self.source),
            'versions': dict(self.versions),
            'files': dict(self.files),
            'proof': self.proof,
        }

    def write(self, folder):
        """Write ``model.json`` into ``folder``."""
        tree = self.tree()
        signed = {**tree, SIGNATURE: signature_of(tree)}
        write_atomically(os.path.join(folder, METADATA), json.dumps(signed, indent=2) + '\n')

    @classmethod
    def read(cls, folder):
        """Read the ``model.json`` of an exported model.

        One without signature, of an earlier version, is read with a warning: nothing tells whether it was altered.

        :raises CheckpointError: if there is none, if it is not whole or not what was signed, or if it is of another
            format.
        """
        path = os.path.join(folder, METADATA)
        try:
            with open(path, encoding='utf-8') as stream:
                tree = json.load(stream)
        except OSError as error:
            raise CheckpointError(f"'{folder}' is not an exported model: {METADATA}: {error.strerror}; "
                                  'fgvc export writes one') from None
        except ValueError:
            raise CheckpointError(f"'{path}' is not JSON; export the run again") from None
        if not isinstance(tree, dict) or not isinstance(tree.get('format'), int):
            raise CheckpointError(f"'{path}' does not describe an exported model: key 'format' is missing")
        if tree['format'] != FORMAT:
            raise CheckpointError(f"'{path}' has format {tree['format']}, this version reads {FORMAT}; "
                                  'export the run again, or install the version that wrote it')
        if SIGNATURE not in tree:
            warnings.warn(f"'{path}' is of an earlier version and carries no {SIGNATURE} of itself: whether a value in "
                          'it was altered cannot be told; export the run again to sign it', stacklevel=2)
        elif tree[SIGNATURE] != signature_of(tree):
            raise CheckpointError(f"'{path}' was altered: its {SIGNATURE} is not that of its content; export the run "
                                  f"again, or, if the change is yours, remove the key '{SIGNATURE}'")
        try:
            return _parsed(tree)
        except (KeyError, TypeError, AttributeError, ValueError):
            raise CheckpointError(f"'{path}' is incomplete or altered; export the run again") from None


def signature_of(tree):
    """Return the SHA-256 of all keys of ``tree`` but the signature, as hexadecimal digits; layout does not count."""
    content = {key: value for key, value in tree.items() if key != SIGNATURE}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode('ascii')).hexdigest()


def _parsed(tree):
    """Return the :class:`Metadata` of a tree; ValueError and the like if a value is not what it must be."""
    name, layout, shape = (tree['input'][key] for key in ('name', 'layout', 'exported_at'))
    output = _EARLIER_OUTPUTS.get(tree['output'], tree['output'])
    numbers = [*tree['mean'], *tree['std']]
    view = EvalView(_sides(tree['resize']['resize']), _side(tree['resize']['crop']))
    whole = (all(isinstance(text, str) for text in (name, *tree['classes']))
             and layout in ('NCHW', 'NHWC') and output in OUTPUTS
             and len(shape) == 4 and all(map(_is_size, shape))
             and len(numbers) == 6 and all(isinstance(number, (int, float)) for number in numbers)
             and all(len(tree['files'][file]['sha256']) == 64 for file in (SYMBOL, PARAMETERS)))
    if not whole:
        raise ValueError('a value is not what it must be')
    takes_pixels = layout == 'NHWC'
    return Metadata(classes=tuple(tree['classes']), size=tuple(shape[1:3] if takes_pixels else shape[2:]),
                    mean=tuple(tree['mean']), std=tuple(tree['std']), view=view, takes_pixels=takes_pixels,
                    flexible=bool(tree['input'].get('flexible')), output=output,
                    temperature=_temperature(tree.get('calibration')), method=tree.get('method', ''),
                    source=tree.get('source', {}), versions=tree.get('versions', {}), files=tree['files'],
                    input_name=name, proof=_proof(tree.get('proof')))


def _temperature(calibration):
    if calibration is None:
        return None
    value = calibration['temperature']
    if not isinstance(value, (int, float)) or not 0 < value < float('inf'):
        raise ValueError(f'{value} is no temperature')
    return float(value)


def _proof(rows):
    if rows is None:
        return None
    if len(rows) != 2 or not all(isinstance(number, (int, float)) for row in rows for number in row):
        raise ValueError('the proof is not of two images')
    return tuple(map(tuple, rows))


def _is_size(value):
    return isinstance(value, int) and value > 0


def _side(value):
    if value is not None and not _is_size(value):
        raise ValueError(f'{value} is no size')
    return value


def _sides(value):
    if isinstance(value, list):
        if len(value) != 2 or not all(map(_is_size, value)):
            raise ValueError(f'{value} is no height and width')
        return tuple(value)
    return _side(value)
