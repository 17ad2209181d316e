"""Write tiny_legacy.pth and tiny_zip.pth beside this script, state dicts of one small net: run with any torch ≥ 2.0."""
import os

import torch
from torch import nn

torch.manual_seed(0)
net = nn.ModuleDict({'conv1': nn.Conv2d(3, 16, 3, bias=False), 'bn1': nn.BatchNorm2d(16),
                     'conv2': nn.Conv2d(16, 16, 3, bias=False), 'fc': nn.Linear(16, 10)})
here = os.path.dirname(os.path.abspath(__file__))
for name, zipped in (('legacy', False), ('zip', True)):
    torch.save(net.state_dict(), os.path.join(here, f'tiny_{name}.pth'), _use_new_zipfile_serialization=zipped)
