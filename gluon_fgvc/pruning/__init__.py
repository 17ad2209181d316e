"""Structured pruning: whole channels leave a network, with everything that belongs to them.

Groups of channels are read from the graph (``channels``), ranked (``rankings``), chosen (``selection``) and cut out
(``surgery``); then BatchNorm is measured anew (``precise_bn``).
"""
from gluon_fgvc import machine

machine.prepare()  # before anything imports mxnet

from gluon_fgvc.pruning.channels import Channels, Group
from gluon_fgvc.pruning.precise_bn import precise_bn
from gluon_fgvc.pruning.rankings import attention_scores, l1_scores, taylor_scores
from gluon_fgvc.pruning.selection import check_amount, select
from gluon_fgvc.pruning.surgery import Pruned, prune

__all__ = ['Channels', 'Group', 'Pruned', 'attention_scores', 'check_amount', 'l1_scores', 'precise_bn',
           'prune', 'select', 'taylor_scores']
