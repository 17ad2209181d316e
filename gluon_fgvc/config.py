"""The configuration: five strict sections, YAML files without inheritance, ``KEY VALUE`` overrides.

``load`` reads a file, applies overrides and returns a frozen :class:`Config`. Unknown keys, keys
that the chosen optimizer, schedule, data set or method does not use, wrong types and values out of
range raise :class:`~gluon_fgvc.errors.ConfigError` with the value, the rule, the nearest valid name
and the line of the file.

Data sets and methods own their options (a dataclass beside their code), so that a new one needs no
edit here; ``load`` is handed two look-ups, ``data_options(name)`` and ``method_options(name)``, that
return those dataclasses.
"""
import dataclasses
import math
import re
import typing
from dataclasses import dataclass, field
from typing import Any, Mapping, Optional, Tuple, Union

import yaml

from gluon_fgvc.errors import ConfigError, did_you_mean


def option(default=dataclasses.MISSING, doc='', *, minimum=None, maximum=None, above=None, below=None,
           choices=None, variants=None):
    """A dataclass field with its documentation and the rule its values obey.

    ``minimum``/``maximum`` are inclusive bounds, ``above``/``below`` exclusive ones; for tuples they
    hold for each element. ``variants`` maps the value of the key ``name`` to a dataclass (used for
    optimizers and schedules). Public, because data sets and methods declare their options with it.
    """
    rules = dict(doc=doc, minimum=minimum, maximum=maximum, above=above, below=below,
                 choices=choices, variants=variants)
    metadata = {key: value for key, value in rules.items() if value is not None}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


# --- data ------------------------------------------------------------------------------------

@dataclass(frozen=True)
class TrainView:
    """How a training image is prepared, in this order; sizes in pixels."""

    resize: Union[int, Tuple[int, int], None] = option(
        None, 'shorter side, or [height, width] without crop', minimum=1)
    pad: int = option(0, 'pixels mirrored around the image before the crop, as is usual for CIFAR', minimum=0)
    crop: Optional[int] = option(None, 'side of a random square crop', minimum=1)
    random_resized_crop: Optional[int] = option(
        None, 'side of a crop of random area and aspect; replaces resize and crop', minimum=1)
    scale: Tuple[float, float] = option((0.08, 1.0), 'area range of random_resized_crop', above=0, maximum=1)
    ratio: Tuple[float, float] = option((0.75, 4 / 3), 'aspect range of random_resized_crop', above=0)
    flip: bool = option(False, 'mirror left-right with probability 1/2')
    flip_vertical: bool = option(False, 'mirror top-bottom with probability 1/2')
    transpose: bool = option(False, 'swap rows and columns with probability 1/2 (with both flips: all '
                                    'eight symmetries of the square)')
    rotation: float = option(0.0, 'largest rotation in degrees, either way', minimum=0, maximum=180)
    color_jitter: float = option(0.0, 'largest relative change of brightness, contrast and saturation',
                                 minimum=0, below=1)


@dataclass(frozen=True)
class TestView:
    """How an image is prepared outside training; nothing here is random."""

    __test__ = False  # not a test case, whatever its name says to pytest

    resize: Union[int, Tuple[int, int], None] = option(
        None, 'shorter side, or [height, width] without crop', minimum=1)
    crop: Optional[int] = option(None, 'side of the centre crop', minimum=1)


@dataclass(frozen=True)
class DataConfig:
    """Which images, how they are prepared and batched. ``options`` belong to the data set."""

    name: str = option(doc='data set: a file of gluon_fgvc/data/datasets')
    train: TrainView = option(TrainView, 'preparation of training images')
    test: TestView = option(TestView, 'preparation of validation, test and new images')
    batch_size: int = option(32, 'images per step over all contexts', minimum=1)
    workers: int = option(2, 'how many load images at once; 0 loads in the main thread', minimum=0, maximum=256)
    worker_type: str = option('process', 'what workers are: threads copy nothing, but share one Python interpreter',
                              choices=('process', 'thread'))
    cache: int = option(0, 'MiB of memory, for each split, that keep decoded and resized images for later epochs',
                        minimum=0)
    sampler: str = option('shuffled', "which training images make up an epoch: 'shuffled' all of them once, 'weighted' "
                                      'as many, drawn with replacement so that all classes come equally often',
                          choices=('shuffled', 'weighted'))
    val_share: float = option(0.1, 'stratified share of train held out for choosing the epoch; ignored '
                                   'where the data set has a validation split', minimum=0, below=1)
    val_seed: int = option(0, 'seed of that split, kept apart from run.seed so that seeds share it', minimum=0)
    mean: Optional[Tuple[float, float, float]] = option(
        None, 'RGB mean on [0, 1]; null takes what the backbone was trained with')
    std: Optional[Tuple[float, float, float]] = option(
        None, 'RGB standard deviation on [0, 1]; null as for mean', above=0)
    bad_image: str = option('fail', 'what a broken image does', choices=('fail', 'skip'))
    options: Any = None


# --- backbone and method ---------------------------------------------------------------------

@dataclass(frozen=True)
class BackboneConfig:
    """Which network carries the method, and where its weights come from."""

    name: str = option(doc='a name of gluon_fgvc.backbones.available()')
    weights: str = option('zoo', "'zoo', 'none', 'package:efficientnet-lite0', a file's path or URL#sha256=DIGITS")
    head: str = option('gap', 'how the last map becomes a vector', choices=('gap', 'isqrt_cov'))
    output_stride: Optional[int] = option(
        None, 'stride of the last map instead of its own (32); null changes nothing', choices=(None, 8, 16))
    dilate: bool = option(True, 'with output_stride: spread the convolutions behind a stride that is gone')
    widths: Optional[str] = option(None, 'path of a channel plan as tools/prune.py writes it; null is all channels')
    dropout: float = option(0.0, 'share dropped between the convolutions of a block in training; for the wide ResNets '
                                 'warn_wideresnet*', minimum=0, below=1)


@dataclass(frozen=True)
class MethodConfig:
    """Which method is trained. ``options`` belong to the method."""

    name: str = option(doc='a file of gluon_fgvc/methods')
    options: Any = None


# --- train -----------------------------------------------------------------------------------

@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent; weight decay applies to all parameters, as in the d2l book."""

    lr: float = option(doc='learning rate', minimum=0)
    name: str = 'sgd'
    momentum: float = option(0.9, '', minimum=0, below=1)
    wd: float = option(0.0, 'weight decay', minimum=0)
    clip_gradient: Optional[float] = option(None, 'bound on each gradient element', above=0)


@dataclass(frozen=True)
class NAG(SGD):
    """SGD with Nesterov's accelerated gradient."""

    name: str = 'nag'


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma and Ba 2015); weight decay is the L2 kind, added to the gradient."""

    lr: float = option(doc='learning rate', minimum=0)
    name: str = 'adam'
    beta1: float = option(0.9, '', minimum=0, below=1)
    beta2: float = option(0.999, '', minimum=0, below=1)
    epsilon: float = option(1e-8, '', above=0)
    wd: float = option(0.0, 'weight decay', minimum=0)
    clip_gradient: Optional[float] = option(None, 'bound on each gradient element', above=0)


@dataclass(frozen=True)
class Constant:
    """The learning rate stays as it is."""

    name: str = 'constant'
    warmup: float = option(0.0, 'epochs of linear warm-up from 0', minimum=0)


@dataclass(frozen=True)
class Step:
    """Multiply the learning rate by ``factor`` every ``every`` epochs, or at each of ``at``."""

    name: str = 'step'
    every: Optional[int] = option(None, 'epochs between steps', minimum=1)
    at: Tuple[int, ...] = option((), 'epochs at which to step, instead of every', minimum=1)
    factor: float = option(0.1, '', above=0)
    warmup: float = option(0.0, 'epochs of linear warm-up from 0', minimum=0)

    def __post_init__(self):
        if bool(self.at) == (self.every is not None):
            raise ValueError("step needs either 'every' or 'at'")


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from the learning rate down to ``final`` times it, after the warm-up."""

    name: str = 'cosine'
    final: float = option(0.0, 'share of the learning rate at the end', minimum=0, maximum=1)
    warmup: float = option(0.0, 'epochs of linear warm-up from 0', minimum=0)


@dataclass(frozen=True)
class Poly:
    """(1 - progress)^power from the learning rate down to ``final`` times it, after the warm-up."""

    name: str = 'poly'
    power: float = option(2.0, '', above=0)
    final: float = option(0.0, 'share of the learning rate at the end', minimum=0, maximum=1)
    warmup: float = option(0.0, 'epochs of linear warm-up from 0', minimum=0)


OPTIMIZERS = {'sgd': SGD, 'nag': NAG, 'adam': Adam}
SCHEDULES = {'constant': Constant, 'step': Step, 'cosine': Cosine, 'poly': Poly}


@dataclass(frozen=True)
class TrainConfig:
    """How long and with what the parameters move."""

    epochs: int = option(doc='passes over the training images', minimum=1)
    optimizer: Any = option(doc='', variants=OPTIMIZERS)
    schedule: Any = option(Constant, '', variants=SCHEDULES)
    label_smoothing: float = option(0.0, 'probability mass spread evenly over all classes', minimum=0, below=1)
    mixup: float = option(0.0, 'parameter of the Beta distribution that mixes pairs; 0 is off', minimum=0)
    class_weights: Union[str, Tuple[float, ...]] = option(
        'none', "'none', 'balanced' (N / (K n_k)) or one factor per class")
    ema: float = option(0.0, 'decay per step of an exponential moving average of the parameters, which '
                             'is then what is evaluated and kept; 0 is off', minimum=0, below=1)
    select_by: str = option('top1', 'what validation chooses the epoch by (the other breaks ties); a small split '
                                    'is steadier in its loss', choices=('top1', 'loss'))


# --- run -------------------------------------------------------------------------------------

@dataclass(frozen=True)
class RunConfig:
    """Where and how a run executes, when it stops early, and its seed."""

    seed: int = option(0, '', minimum=0, maximum=2 ** 31 - 1)
    contexts: Union[str, Tuple[str, ...]] = option(
        'auto', "'auto' (all GPUs, else the CPU) or a list such as [gpu0, gpu1] or [cpu0, cpu1]")
    kvstore: str = option('device', 'how gradients are summed over contexts', choices=('local', 'device', 'nccl'))
    hybridize: bool = option(True, 'compile the network with static memory')
    log_every: int = option(20, 'steps between log lines (one synchronisation each)', minimum=1)
    save_every: int = option(1, 'epochs between checkpoints', minimum=1)
    early_stop_patience: int = option(0, 'epochs without a better validation result before stopping; 0 is off',
                                      minimum=0)
    focus: bool = option(False, 'evaluations also measure which share of the class activation lies in the boxes of the '
                                'data set')
    work_dir: str = option('work_dirs', 'folder that receives the run folders')


@dataclass(frozen=True)
class Config:
    """A complete run: everything that was decided, nothing that was measured."""

    data: DataConfig
    backbone: BackboneConfig
    method: MethodConfig
    train: TrainConfig
    run: RunConfig


# --- reading ---------------------------------------------------------------------------------

class _Loader(yaml.SafeLoader):
    """Safe YAML in which ``1e-4`` is a number and a repeated key an error."""


_Loader.yaml_implicit_resolvers = {key: list(value) for key, value in yaml.SafeLoader.yaml_implicit_resolvers.items()}
_Loader.add_implicit_resolver(
    'tag:yaml.org,2002:float', re.compile(r'^[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)$'), list('-+.0123456789'))


def _mapping_without_repeats(loader, node, deep=False):
    seen = set()
    for key, _ in node.value:
        if key.value in seen:
            raise ConfigError(f"line {key.start_mark.line + 1}: key '{key.value}' is given twice")
        seen.add(key.value)
    return yaml.SafeLoader.construct_mapping(loader, node, deep)


_Loader.add_constructor('tag:yaml.org,2002:map',
                        lambda loader, node: _mapping_without_repeats(loader, node, deep=True))


def _parse_yaml(text, place):
    """Return (value, {key path: line number}) of a YAML text."""
    try:
        node = yaml.compose(text, Loader=_Loader)
        value = yaml.load(text, Loader=_Loader)
    except ConfigError as error:
        raise ConfigError(f'{place}: {error}') from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, 'problem_mark', None)
        where = f', line {mark.line + 1}' if mark else ''
        what = getattr(error, 'problem', None) or str(error) or type(error).__name__
        raise ConfigError(f'{place}{where}: not valid YAML: {what}'.replace('\n', ' ')) from None
    lines = {}

    def walk(node, path):
        if isinstance(node, yaml.MappingNode):
            for key, child in node.value:
                lines[path + (key.value,)] = key.start_mark.line + 1
                walk(child, path + (key.value,))

    walk(node, ())
    return value, lines


def parse_overrides(words):
    """Turn ``['train.epochs', '3', 'run.seed=1']`` into ``[('train.epochs', 3), ('run.seed', 1)]``.

    Both spellings, ``KEY VALUE`` and ``KEY=VALUE``, may be mixed; values are YAML.
    """
    pairs, words = [], list(words)
    while words:
        word = words.pop(0)
        if '=' in word:
            key, text = word.split('=', 1)
        elif words:
            key, text = word, words.pop(0)
        else:
            raise ConfigError(f"override '{word}' has no value; write '{word} VALUE' or '{word}=VALUE'")
        if not re.fullmatch(r'[A-Za-z_]\w*(\.[A-Za-z_]\w*)+', key):
            raise ConfigError(f"override '{key}' is not of the form section.key, e.g. train.epochs=3")
        pairs.append((key, _parse_yaml(text, f"override '{key}'")[0]))
    return pairs


def apply_overrides(tree, overrides):
    """Put the pairs (dotted key, value) that :func:`parse_overrides` returns into nested plain values, in place."""
    for key, value in overrides:
        *parents, last = key.split('.')
        node = tree
        for depth, name in enumerate(parents):
            node = node.setdefault(name, {})
            if not isinstance(node, dict):
                raise ConfigError(f"override '{key}': '{'.'.join(parents[:depth + 1])}' is not a section")
        node[last] = value


class _Reader:
    """Turns a tree of plain values into dataclasses, checking every key, type and range."""

    def __init__(self, place, lines, overridden):
        self.place, self.lines, self.overridden = place, lines, overridden

    def error(self, path, message):
        dotted = '.'.join(path)
        for end in range(len(path), 0, -1):  # an override may have given a whole section, e.g. train.schedule=cosine
            if '.'.join(path[:end]) in self.overridden:
                return ConfigError(f"override '{dotted}': {message}")
        known = path
        while known and known not in self.lines:
            known = known[:-1]
        line = f', line {self.lines[known]}' if known else ''
        return ConfigError(f"{self.place}{line}: {dotted + ': ' if dotted else ''}{message}")

    def section(self, schema, tree, path, extra=None, ignore=()):
        """Build ``schema`` from mapping ``tree``; ``extra`` is a dataclass that owns further keys."""
        if tree is None:
            tree = {}
        if not isinstance(tree, dict):
            raise self.error(path, f'{tree!r} is not a mapping of keys to values')
        fields = {f.name: f for f in dataclasses.fields(schema) if f.name != 'options'}
        extras = {f.name: f for f in dataclasses.fields(extra)} if extra else {}
        for key in tree:
            if key not in fields and key not in extras:
                raise self.error(path + (str(key),), f"unknown key '{key}'{did_you_mean(key, [*fields, *extras])}")
        own = self.fields(schema, fields, tree, path)
        if extra:
            own['options'] = self.construct(extra, self.fields(extra, extras, tree, path), path)
        return self.construct(schema, own, path)

    def construct(self, schema, values, path):
        try:
            return schema(**values)
        except ConfigError:
            raise
        except (TypeError, ValueError) as error:  # a dataclass's own __post_init__ rule
            raise self.error(path, str(error)) from None

    def fields(self, schema, fields, tree, path):
        hints, values = typing.get_type_hints(schema), {}
        for name, spec in fields.items():
            if name in tree:
                values[name] = self.value(hints[name], tree[name], spec.metadata, path + (name,))
            elif spec.default is dataclasses.MISSING and spec.default_factory is dataclasses.MISSING:
                raise self.error(path, f"required key '{name}' is missing")
        return values

    def value(self, hint, value, rules, path):
        if 'variants' in rules:
            return self.variant(rules['variants'], value, path)
        if dataclasses.is_dataclass(hint):
            return self.section(hint, value, path)
        try:
            result = _coerce(hint, value)
        except TypeError:
            raise self.error(path, f'{value!r} is not {_describe(hint)}') from None
        for element in result if isinstance(result, tuple) else (result,):
            self.check(element, rules, path)
        return result

    def check(self, value, rules, path):
        if 'choices' in rules and value not in rules['choices']:
            raise self.error(path, f"'{value}' is not a choice{did_you_mean(value, rules['choices'])}")
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return
        for rule, holds, words in (('minimum', lambda v, b: v >= b, 'at least'), ('above', lambda v, b: v > b, 'above'),
                                   ('maximum', lambda v, b: v <= b, 'at most'), ('below', lambda v, b: v < b, 'below')):
            if rule in rules and not holds(value, rules[rule]):
                raise self.error(path, f'{value!r} must be {words} {rules[rule]}')

    def variant(self, variants, value, path):
        if isinstance(value, str):
            value = {'name': value}
        if not isinstance(value, dict) or 'name' not in value:
            raise self.error(path, f"{value!r} needs a key 'name', one of {', '.join(variants)}")
        if value['name'] not in variants:
            raise self.error(path + ('name',), f"unknown name '{value['name']}'{did_you_mean(value['name'], variants)}")
        return self.section(variants[value['name']], value, path)


def _coerce(hint, value):
    """Return ``value`` as ``hint``, or raise TypeError. An integer may stand for a float, nothing else may."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin is Union:
        for choice in arguments:
            try:
                return _coerce(choice, value)
            except TypeError:
                continue
        raise TypeError
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise TypeError
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return tuple(_coerce(arguments[0], element) for element in value)
        if len(value) != len(arguments):
            raise TypeError
        return tuple(_coerce(kind, element) for kind, element in zip(arguments, value))
    if origin in (dict, Mapping, typing.get_origin(Mapping[str, str])):
        if not isinstance(value, dict):
            raise TypeError
        return {_coerce(arguments[0], k): _coerce(arguments[1], v) for k, v in value.items()}
    if hint is type(None):
        if value is not None:
            raise TypeError
        return None
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise TypeError
        return float(value)
    if hint is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if hint in (bool, str) and isinstance(value, hint):
        return value
    raise TypeError


def _describe(hint):
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Union:
        return ' or '.join(_describe(choice) for choice in arguments)
    if origin is tuple:
        if arguments[1:] == (Ellipsis,):
            return f'a list, each element {_describe(arguments[0])}'
        return f'a list of {len(arguments)}, each {_describe(arguments[0])}'
    if origin is not None:
        return 'a mapping'
    return {int: 'a whole number', float: 'a finite number', bool: 'true or false', str: 'text',
            type(None): 'null'}.get(hint, hint.__name__)


def from_tree(tree, data_options, method_options, place='configuration', lines=None, overridden=()):
    """Build a :class:`Config` from nested plain values. See :func:`load` for the arguments."""
    reader = _Reader(place, lines or {}, overridden)
    sections = {f.name: f.type for f in dataclasses.fields(Config)}
    if not isinstance(tree, dict):
        raise reader.error((), f"not a configuration: expected sections {', '.join(sections)}")
    for key in tree:
        if key not in sections:
            raise reader.error((str(key),), f"unknown section '{key}'{did_you_mean(key, sections)}")
    built = {}
    for name, schema in sections.items():
        if name not in tree and name != 'run':
            raise reader.error((), f"section '{name}' is missing")
        section, extra = tree.get(name), None
        look_up = {'data': data_options, 'method': method_options}.get(name)
        if look_up:
            if not isinstance(section, dict) or not isinstance(section.get('name'), str):
                raise reader.error((name,), "required key 'name' is missing or not text")
            try:
                extra = look_up(section['name'])
            except ConfigError as error:
                raise reader.error((name, 'name'), str(error)) from None
        built[name] = reader.section(schema, section, (name,), extra)
    return Config(**built)


def data_from_tree(tree, data_options, place='configuration'):
    """Build the :class:`DataConfig` alone from a mapping that has ``name``, as :func:`from_tree` does."""
    return _Reader(place, {}, ()).section(DataConfig, tree, ('data',), data_options(tree['name']))


def load(path, overrides=(), *, data_options, method_options):
    """Read the YAML file ``path``, apply ``overrides`` and return a checked :class:`Config`.

    :param overrides: pairs (dotted key, value) as :func:`parse_overrides` returns; later ones win.
    :param data_options: name of a data set → dataclass of its options; raises ConfigError if unknown.
    :param method_options: the same for methods.
    :raises ConfigError: with file, line, key, value and rule.
    """
    try:
        with open(path, encoding='utf-8') as stream:
            text = stream.read()
    except OSError as error:
        raise ConfigError(f"cannot read configuration '{path}': {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"'{path}' is not a text file in UTF-8") from None
    tree, lines = _parse_yaml(text, str(path))
    if isinstance(tree, dict):
        apply_overrides(tree, overrides)
    return from_tree(tree, data_options, method_options, str(path), lines, {key for key, _ in overrides})


# --- writing ---------------------------------------------------------------------------------

def to_tree(value):
    """Turn a configuration into nested plain values; ``from_tree`` takes them back unchanged."""
    if dataclasses.is_dataclass(value):
        names = [f.name for f in dataclasses.fields(value) if f.name != 'options']
        tree = {name: to_tree(getattr(value, name)) for name in sorted(names, key=lambda name: name != 'name')}
        if dataclasses.is_dataclass(getattr(value, 'options', None)):
            tree.update(to_tree(value.options))
        return tree
    if isinstance(value, (tuple, list)):
        return [to_tree(element) for element in value]
    if isinstance(value, Mapping):
        return {key: to_tree(element) for key, element in value.items()}
    return value


def dump(config):
    """Return ``config`` as YAML text with every default filled in."""
    return yaml.safe_dump(to_tree(config), sort_keys=False, default_flow_style=None, width=100)
