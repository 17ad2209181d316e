"""The configuration: five strict sections, YAML files without inheritance, ``KEY VALUE`` overrides."""
from gluon_fgvc.config.changes import replace, untrained
from gluon_fgvc.config.overrides import parse_overrides, plain
from gluon_fgvc.config.packaged import find, names
from gluon_fgvc.config.reading import data_from_tree, digest, dump, from_tree, load, method_from_tree, to_tree
from gluon_fgvc.config.schema import (
    EXECUTION_KEYS,
    NAG,
    OPTIMIZERS,
    SCHEDULES,
    SGD,
    Adam,
    AdamW,
    BackboneConfig,
    Config,
    Constant,
    Cosine,
    DataConfig,
    EvalView,
    MethodConfig,
    Poly,
    RunConfig,
    Step,
    TrainConfig,
    TrainView,
    option,
)

__all__ = ['Adam', 'AdamW', 'BackboneConfig', 'Config', 'Constant', 'Cosine', 'DataConfig', 'EXECUTION_KEYS',
           'MethodConfig', 'NAG', 'OPTIMIZERS', 'Poly', 'RunConfig', 'SCHEDULES', 'SGD', 'Step', 'EvalView',
           'TrainConfig', 'TrainView', 'data_from_tree', 'digest', 'dump', 'find', 'from_tree', 'load',
           'method_from_tree', 'names', 'option', 'parse_overrides', 'plain', 'replace', 'to_tree', 'untrained']
