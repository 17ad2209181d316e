"""From a configuration to a run folder and back: the one place where all parts meet."""
from gluon_fgvc import machine

machine.prepare()  # before anything imports mxnet

from gluon_fgvc.runs.build import (
    build_method,
    changed,
    check_settings,
    contexts_from,
    load_config,
    loader_of,
    seed_initialisers,
)
from gluon_fgvc.runs.ensemble import evaluate_together
from gluon_fgvc.runs.evaluation import evaluate, evaluate_altered
from gluon_fgvc.runs.exported import through_export
from gluon_fgvc.runs.folder import environment, existing_folder, latest_folder, new_folder
from gluon_fgvc.runs.opened import Run, open_run
from gluon_fgvc.runs.pruning import Pruning, prune_run
from gluon_fgvc.runs.reporting import headline, report
from gluon_fgvc.runs.training import train

__all__ = ['Pruning', 'Run', 'build_method', 'changed', 'check_settings', 'contexts_from', 'environment', 'evaluate',
           'evaluate_altered', 'evaluate_together', 'existing_folder', 'headline', 'latest_folder', 'load_config',
           'loader_of', 'new_folder', 'open_run', 'prune_run', 'report', 'seed_initialisers', 'through_export',
           'train']
