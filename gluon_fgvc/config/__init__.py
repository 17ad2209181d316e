"""The configuration: five strict sections, YAML files without inheritance, ``KEY VALUE`` overrides."""
from gluon_fgvc.config.overrides import apply_overrides, parse_overrides, plain
from gluon_fgvc.config.reading import data_from_tree, dump, from_tree, load, to_tree
from gluon_fgvc.config.schema import (
    NAG,
    OPTIMIZERS,
    SCHEDULES,
    SGD,
    Adam,
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

__all__ = ['Adam', 'BackboneConfig', 'Config', 'Constant', 'Cosine', 'DataConfig', 'MethodConfig', 'NAG', 'OPTIMIZERS',
           'Poly', 'RunConfig', 'SCHEDULES', 'SGD', 'Step', 'EvalView', 'TrainConfig', 'TrainView',
           'apply_overrides', 'data_from_tree', 'dump', 'from_tree', 'load', 'option', 'parse_overrides', 'plain',
           'to_tree']
