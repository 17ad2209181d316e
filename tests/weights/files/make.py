"""Write the small torch files beside this script; run with any torch ≥ 2.0 and safetensors: python make.py.

Each holds the same state dict, in one of the formats that ``torch.save`` has written: a transposed, a
sliced and an expanded view of one storage, every supported type, a scalar, an empty tensor, a
Parameter, and the wrapper and prefix that training scripts add.
"""
import os
from collections import OrderedDict

import torch
from safetensors.torch import save_file

base = torch.arange(12, dtype=torch.float32).reshape(3, 4) / 8
state = OrderedDict([
    ('module.transposed', base.t()),
    ('module.sliced', base[1:, ::2]),
    ('module.expanded', base[0, :2].expand(3, 2)),
    ('module.parameter', torch.nn.Parameter(base.double())),
    ('module.half', base.half()),
    ('module.bfloat16', base.bfloat16()),
    ('module.scalar', torch.tensor(7)),
    ('module.int32', torch.tensor([-1, 2], dtype=torch.int32)),
    ('module.int16', torch.tensor([-1, 2], dtype=torch.int16)),
    ('module.int8', torch.tensor([-1, 2], dtype=torch.int8)),
    ('module.uint8', torch.tensor([255, 2], dtype=torch.uint8)),
    ('module.bool', torch.tensor([True, False])),
    ('module.empty', torch.zeros(0, 3)),
])
state._metadata = OrderedDict([('', {'version': 1})])  # as nn.Module.state_dict() adds
here = os.path.dirname(os.path.abspath(__file__))
for protocol in (2, 4):
    for name, zipped in (('legacy', False), ('zip', True)):
        torch.save({'epoch': 3, 'lr': 0.1, 'state_dict': state}, os.path.join(here, f'{name}{protocol}.pth'),
                   _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)

plain = {name[len('module.'):]: tensor.detach().clone().contiguous() for name, tensor in state.items()}
save_file(plain, os.path.join(here, 'all.safetensors'), metadata={'format': 'pt'})
