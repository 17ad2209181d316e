"""Write lite0.npz, lite1.npz or lite2.npz beside this script: what torch computes with the packaged weights.

Run with any torch ≥ 2.0: python make_lite.py NUMBER WEIGHTS.pth ELPV_FOLDER. A second implementation, from the
block table alone, with the padding of Conv2dStaticSamePadding built for the side that the net is made for.
'elpv' are the logits of the central pixels of cells 1 and 1000, as many as the net is made for (of Lite0 128×128);
'noise' those of 117×150 pixels from RandomState(0), where odd sides occur at stride 2; '<name>_stages' the means of
|x| of the four maps.
"""
import math
import os
import sys

import cv2
import numpy as np
import torch
import torch.nn.functional as F

BLOCKS = [(1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112),
          (4, 5, 2, 6, 192), (1, 3, 1, 6, 320)]
DEPTH, MADE_FOR = {'0': 1.0, '1': 1.1, '2': 1.2}, {'0': 224, '1': 240, '2': 260}  # widths are those of the weights
CELLS = {**MADE_FOR, '0': 128}


def run(state, x, number):
    side = MADE_FOR[number]

    def convolve(x, conv, bn, kernel=1, stride=1, groups=1, linear=False):
        nonlocal side
        if stride == 2:
            outputs = math.ceil(side / 2)
            padding, side = (outputs - 1) * 2 + kernel - side, outputs
            x = F.pad(x, [padding // 2, padding - padding // 2] * 2)
        x = F.conv2d(x, state[f'{conv}.weight'], None, stride, 0 if stride == 2 else kernel // 2, 1, groups)
        statistics = [state[f'{bn}.{name}'] for name in ('running_mean', 'running_var', 'weight', 'bias')]
        x = F.batch_norm(x, *statistics, training=False, eps=1e-3)
        return x if linear else F.relu6(x)

    x, index, maps = convolve(x, '_conv_stem', '_bn0', 3, 2), 0, []
    for repeat, kernel, stride, expansion, _ in BLOCKS:
        if stride == 2:
            maps.append(x)
        for block in range(math.ceil(repeat * DEPTH[number]) if repeat > 1 else 1):
            name, step = f'_blocks.{index}.', stride if block == 0 else 1
            y = convolve(x, name + '_expand_conv', name + '_bn0') if expansion > 1 else x
            y = convolve(y, name + '_depthwise_conv', name + '_bn1', kernel, step, y.shape[1])
            y = convolve(y, name + '_project_conv', name + '_bn2', linear=True)
            x, index = x + y if y.shape == x.shape else y, index + 1
    maps = [*maps[1:], convolve(x, '_conv_head', '_bn1')]
    return maps, F.linear(maps[-1].mean((2, 3)), state['_fc.weight'], state['_fc.bias'])


number, weights, folder = sys.argv[1:]
low, high = (300 - CELLS[number]) // 2, (300 + CELLS[number]) // 2
cells = [cv2.imread(os.path.join(folder, f'images/cell{cell:04d}.png'))[low:high, low:high] for cell in (1, 1000)]
images = {'elpv': np.stack(cells), 'noise': np.random.RandomState(0).randint(0, 256, (2, 117, 150, 3))}
results = {}
for name, pixels in images.items():
    x = torch.from_numpy(((pixels.astype('float32') - 127) / 128).transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        maps, logits = run(torch.load(weights, map_location='cpu', weights_only=True), x, number)
    results[name] = logits.numpy()
    results[f'{name}_stages'] = np.array([m.abs().mean() for m in maps])
np.savez_compressed(os.path.join(os.path.dirname(os.path.abspath(__file__)), f'lite{number}.npz'), **results)
