"""Write lite0.npz beside this script: EfficientNet-Lite0 as torch computes it, on the packaged weights.

Run with any torch ≥ 2.0: python make_lite0.py WEIGHTS.pth ELPV_FOLDER. A second implementation, from the
block table alone, with the padding of Conv2dStaticSamePadding built for 224 px: kernel - 2 at stride 2.
'elpv' are the logits of the central 128×128 pixels of cells 1 and 1000; 'noise' those of 117×150 pixels
from RandomState(0), where odd sides occur at stride 2; '<name>_stages' the means of |x| of the four maps.
"""
import os
import sys

import cv2
import numpy as np
import torch
import torch.nn.functional as F

BLOCKS = [(1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112),
          (4, 5, 2, 6, 192), (1, 3, 1, 6, 320)]


def run(state, x):
    def convolve(x, conv, bn, kernel=1, stride=1, groups=1, linear=False):
        if stride == 2:
            before = (kernel - 2) // 2
            x = F.pad(x, [before, before + 1, before, before + 1])
        x = F.conv2d(x, state[f'{conv}.weight'], None, stride, 0 if stride == 2 else kernel // 2, 1, groups)
        statistics = [state[f'{bn}.{name}'] for name in ('running_mean', 'running_var', 'weight', 'bias')]
        x = F.batch_norm(x, *statistics, training=False, eps=1e-3)
        return x if linear else F.relu6(x)

    x, index, maps = convolve(x, '_conv_stem', '_bn0', 3, 2), 0, []
    for repeat, kernel, stride, expansion, _ in BLOCKS:
        if stride == 2:
            maps.append(x)
        for number in range(repeat):
            name, step = f'_blocks.{index}.', stride if number == 0 else 1
            y = convolve(x, name + '_expand_conv', name + '_bn0') if expansion > 1 else x
            y = convolve(y, name + '_depthwise_conv', name + '_bn1', kernel, step, y.shape[1])
            y = convolve(y, name + '_project_conv', name + '_bn2', linear=True)
            x, index = x + y if y.shape == x.shape else y, index + 1
    maps = [*maps[1:], convolve(x, '_conv_head', '_bn1')]
    return maps, F.linear(maps[-1].mean((2, 3)), state['_fc.weight'], state['_fc.bias'])


weights, folder = sys.argv[1:]
cells = [cv2.imread(os.path.join(folder, f'images/cell{number:04d}.png'))[86:214, 86:214] for number in (1, 1000)]
images = {'elpv': np.stack(cells), 'noise': np.random.RandomState(0).randint(0, 256, (2, 117, 150, 3))}
results = {}
for name, pixels in images.items():
    x = torch.from_numpy(((pixels.astype('float32') - 127) / 128).transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        maps, logits = run(torch.load(weights, map_location='cpu', weights_only=True), x)
    results[name] = logits.numpy()
    results[f'{name}_stages'] = np.array([m.abs().mean() for m in maps])
np.savez_compressed(os.path.join(os.path.dirname(os.path.abspath(__file__)), 'lite0.npz'), **results)
