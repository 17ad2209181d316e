"""What programs and notebooks call, as ``gluon_fgvc.train`` and so on: the commands without a command line.

Errors that a user can mend are :class:`~gluon_fgvc.errors.UserError`, one line each; a machine that cannot run mxnet is
a :class:`~gluon_fgvc.machine.environment.SetupError`.
"""
import os
from functools import cache
from numbers import Integral
from pathlib import Path
from typing import Any, List, Mapping, Optional, Union

from gluon_fgvc import backbones, config, data, methods, runs
from gluon_fgvc.backbones import Backbone
from gluon_fgvc.config import Config
from gluon_fgvc.deploy import Predictor
from gluon_fgvc.engine import checkpoint
from gluon_fgvc.engine.fit import fit
from gluon_fgvc.errors import ConfigError
from gluon_fgvc.methods import Method, Phase
from gluon_fgvc.runs import Run, open_run

__all__ = ['Config', 'Method', 'Phase', 'Predictor', 'Run', 'available_backbones', 'available_datasets',
           'available_methods', 'configure', 'create_backbone', 'create_method', 'evaluate', 'fit', 'load_config',
           'open_run', 'register_method', 'train']

Name = Union[str, os.PathLike]
Section = Mapping[str, Any]

# What :func:`configure` puts where nothing is said.
VIEWS = {'train': {'random_resized_crop': 224, 'flip': True}, 'eval': {'resize': 256, 'crop': 224}}
TRAIN = {'epochs': 10, 'optimizer': {'name': 'sgd', 'lr': 0.01, 'momentum': 0.9, 'wd': 1e-4}, 'schedule': 'cosine'}


# --- configurations --------------------------------------------------------------------------

def load_config(name: Name, overrides: Optional[Mapping[str, Any]] = None) -> Config:
    """Return the checked configuration of a YAML file, or of a packaged one, e.g. ``'finetune/quickstart'``.

    :param overrides: dotted key → value, e.g. ``{'train.epochs': 3}``.
    :raises ConfigError: with place, key, value, rule and the nearest valid name.
    """
    return runs.load_config(config.find(name), list(_mapping('overrides', overrides).items()))


def configure(data: Union[Name, Section], backbone: Union[str, Section], method: Union[str, Section] = 'finetune',
              train: Optional[Section] = None, run: Optional[Section] = None) -> Config:
    """Return the checked configuration of these five sections, whose keys are those of the YAML files.

    :param data: a folder of photographs, ``<folder>/{train,test}/<class>/<photograph>``, or a mapping. Its ``name`` is
        'image_folder' if there is none. If it says neither ``train`` nor ``eval``, images are prepared as :data:`VIEWS`
        says, at 224 x 224 pixels.
    :param backbone: one of :func:`available_backbones`, or a mapping with ``name``; weights are the zoo's by default.
    :param method: one of :func:`available_methods`, or a mapping with ``name``.
    :param train: ``epochs``, ``optimizer``, ``schedule`` and so on; of these three, what is missing is that of
        :data:`TRAIN`: ten epochs of SGD from 0.01 down a cosine.
    :param run: ``seed``, ``contexts`` and so on.
    :raises ConfigError: with key, value, rule and the nearest valid name.
    """
    tree = {'data': _section(data, 'root'), 'backbone': _section(backbone, 'name'),
            'method': _section(method, 'name'), 'train': {**TRAIN, **_mapping('train', train)},
            'run': _mapping('run', run)}
    tree['data'].setdefault('name', 'image_folder')
    if not VIEWS.keys() & tree['data'].keys():
        tree['data'].update(VIEWS)
    return _checked(tree)


def _mapping(name, given):
    if not isinstance(given, (Mapping, type(None))):
        raise ConfigError(f'{name}: {given!r} is not a mapping of keys to values')
    return dict(given or {})


def _section(given, key):
    section = dict(given) if isinstance(given, Mapping) else {key: given}
    return {name: os.fspath(value) if isinstance(value, os.PathLike) else value for name, value in section.items()}


def _checked(tree):
    return config.from_tree(tree, data.options, methods.options)


# --- runs ------------------------------------------------------------------------------------

def train(configuration: Union[Config, Name], work_dir: Optional[Name] = None, *, resume: bool = False,
          test: bool = True) -> Run:
    """Train, keep the epoch that validation chooses, evaluate it once on the test split and write the report.

    :param configuration: a :class:`Config`, or what :func:`load_config` takes.
    :param work_dir: the run folder itself; None is a new one, ``<run.work_dir>/<name>/<time>``.
    :param resume: go on with the run that ``work_dir`` holds, or with the newest ``<run.work_dir>/<name>/<time>``;
        without, a folder that holds a run is refused.
    :param test: whether the test split is evaluated; its accuracies are in ``evaluation.json`` of the run folder.
    :returns: the run, opened at its best epoch.
    :raises UserError: ConfigError, DataError, WeightsError or CheckpointError for what cannot be used; TrainingError
        when a loss is no longer finite, and the checkpoints of earlier epochs are then intact.
    """
    if isinstance(configuration, Config):
        cfg, stem = configuration, f'{configuration.method.name}_{configuration.backbone.name}'
    else:
        cfg, stem = load_config(configuration), config.find(configuration).stem
    if work_dir is not None and not resume and checkpoint.read(Path(work_dir), 'last'):
        raise ConfigError(f"work_dir '{work_dir}' holds a run already; resume=True goes on, or name another")

    @cache
    def folder():  # made when nothing is wrong with the data
        if work_dir is not None:
            return Path(work_dir)
        return runs.latest_folder(cfg, stem) if resume else runs.new_folder(cfg, stem)

    runs.train(cfg, folder, test=test)
    return open_run(folder())


def evaluate(run: Union[Run, Name], split: str = 'test', *, crop: bool = True) -> dict:
    """Evaluate a run on a split, and write ``evaluation*.json`` and ``predictions*.csv`` into its folder.

    :param run: a :class:`Run`, or its folder.
    :param split: 'test', 'val' or 'train'; each look at the test split is counted and reported.
    :param crop: False shows whole images to methods that take any size, instead of ``data.eval.crop``.
    :returns: dict with ``top1`` and ``mean_class_accuracy`` in [0, 1], ``loss`` in nats, the number of ``images``,
        ``per_class`` rows and what chose the epoch.
    :raises UserError: CheckpointError for no run, ConfigError for a split that is not there or a crop that must be.
    """
    if split not in ('test', 'val', 'train'):
        raise ConfigError(f"split '{split}' is not one of test, val, train")
    return runs.evaluate(run if isinstance(run, Run) else open_run(run), split, crop=crop)


# --- parts -----------------------------------------------------------------------------------

def create_backbone(name: str, weights: str = 'none', ctx: Any = None, **options: Any) -> Backbone:
    """Return a network without its classifier: images (N,3,H,W), normalised, to the last map (N,C,h,w).

    :param name: one of :func:`available_backbones`.
    :param weights: 'none' (random), 'zoo', or the path of a file; see :func:`gluon_fgvc.backbones.get`.
    :param ctx: MXNet context or list of contexts; None is the CPU.
    :param options: ``global_pool``, ``output_stride`` and so on, as the section ``backbone`` has them.
    :raises UserError: ConfigError for an unknown name, WeightsError for weights that cannot be had or do not fit.
    """
    return backbones.get(name, weights, **({} if ctx is None else {'ctx': ctx}), **options)


def create_method(name: str, backbone: Backbone, num_classes: int, **options: Any) -> Method:
    """Return a method on ``backbone``: ``net`` maps images (N,3,H,W), normalised, to logits (N,num_classes).

    :param name: one of :func:`available_methods`.
    :param options: keys of the section ``method``.
    :raises ConfigError: for an unknown name or key, a value that its rule does not allow, or a rule of the method that
        is broken.
    """
    if isinstance(backbone, str):
        raise ConfigError(f"backbone: '{backbone}' is a name; create_backbone('{backbone}') makes the network")
    if not isinstance(num_classes, Integral) or num_classes < 2:  # NumPy's numbers are, too
        raise ConfigError(f'num_classes {num_classes!r} is not a whole number of at least 2')
    section = config.method_from_tree({'name': name, **options}, methods.options, 'create_method')
    return methods.create(name, backbone, num_classes, section.options)


def register_method(name: str, method: type, options: Optional[type] = None) -> None:
    """Let configurations of this process call ``method``, a subclass of :class:`Method`, by ``name``.

    :param options: frozen dataclass of its keys in the section ``method``; None for a method without.
    :raises ConfigError: if the package has a method of this name, or ``name`` is no identifier.
    """
    methods.register(name, method, options)


def available_backbones() -> List[str]:
    """Return the sorted names of all backbones."""
    return backbones.available()


def available_methods() -> List[str]:
    """Return the sorted names of all methods, those of :func:`register_method` among them."""
    return methods.available()


def available_datasets() -> List[str]:
    """Return the sorted names of all data sets that ``data.name`` may be."""
    return data.available()
