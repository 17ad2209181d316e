"""A run folder: every name of what lies in one, and all that reads and writes it. Needs no MXNet."""
from gluon_fgvc.run_folder.contents import Choice, RunFiles, choice, read
from gluon_fgvc.run_folder.folder import RunFolder, runs_in, suffix_of
from gluon_fgvc.run_folder.predictions import PREDICTION_COLUMNS, Prediction, read_predictions

__all__ = ['Choice', 'PREDICTION_COLUMNS', 'Prediction', 'RunFiles', 'RunFolder', 'choice', 'read', 'read_predictions',
           'runs_in', 'suffix_of']
