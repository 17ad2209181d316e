"""Write torch_parity.npz beside this script: what torchvision and timm compute with weights drawn from names.

Run with torch ≥ 2.0, torchvision and timm:

    python make_torch_parity.py                  the vectors of all networks
    python make_torch_parity.py NET FOLDER       one network: FOLDER/weights.pth (legacy) and weights.safetensors,
                                                 with outputs.npz
    python make_torch_parity.py --check NET FILE OUTPUTS
                                                 load FILE (safetensors) strictly, compare with OUTPUTS (npz)

Every parameter is drawn from a seed made of its name, so that the test can draw the same without torch. 'logits' are
those of ten classes; 'map' is every 7th value of the last feature map. VGG's logits need fc6 and fc7, which are left
out: its map ends before the last pool.
"""
import os
import sys
import zlib

import numpy as np

# backbone of gluon_fgvc → (library, name there, side of the images, module whose output is the last map)
NETS = {
    'resnet18_v1b': ('torchvision', 'resnet18', 64, 'layer4'),
    'resnet34_v1b': ('torchvision', 'resnet34', 64, 'layer4'),
    'resnet50_v1b': ('torchvision', 'resnet50', 64, 'layer4'),
    'resnet101_v1b': ('torchvision', 'resnet101', 64, 'layer4'),
    'resnet152_v1b': ('timm', 'resnet152', 64, 'layer4'),
    'resnet50_v1d': ('timm', 'resnet50d', 72, 'layer4'),
    'resnet101_v1d': ('timm', 'resnet101d', 72, 'layer4'),
    'resnet152_v1d': ('timm', 'resnet152d', 72, 'layer4'),
    'resnet50_v1c': ('timm', 'resnet50c', 64, 'layer4'),
    'resnet50_v1s': ('timm', 'resnet50s', 64, 'layer4'),
    'wide_resnet50_2': ('torchvision', 'wide_resnet50_2', 64, 'layer4'),
    'vgg11': ('torchvision', 'vgg11', 64, 'features.19'),
    'vgg11_bn': ('timm', 'vgg11_bn', 64, 'features.27'),
    'vgg13_bn': ('torchvision', 'vgg13_bn', 64, 'features.33'),
    'vgg16': ('timm', 'vgg16', 64, 'features.29'),
    'vgg19_bn': ('torchvision', 'vgg19_bn', 64, 'features.51'),
    'mobilenetv2_1.0': ('torchvision', 'mobilenet_v2', 64, 'features'),
    'mobilenetv2_1.0 timm': ('timm', 'mobilenetv2_100', 64, 'bn2'),
    'densenet121': ('torchvision', 'densenet121', 64, 'features'),
    'densenet161': ('timm', 'densenet161', 64, 'features'),
    'densenet169': ('torchvision', 'densenet169', 64, 'features'),
    'densenet201': ('torchvision', 'densenet201', 64, 'features'),
    'inceptionv3': ('torchvision', 'inception_v3', 107, 'Mixed_7c'),
    'efficientnet_lite0': ('timm', 'tf_efficientnet_lite0', 64, 'bn2'),
    'efficientnet_lite1': ('timm', 'tf_efficientnet_lite1', 48, 'bn2'),  # odd and even sides in the same places
    'efficientnet_lite2': ('timm', 'tf_efficientnet_lite2', 36, 'bn2'),  # as at 240 and 260 px
}
CLASSES = 10


def draw(name, shape):
    """Return the value of a parameter, float32, from its name in the torch file: He's scale, BatchNorm near 1."""
    rng = np.random.RandomState(zlib.crc32(name.encode()))
    if len(shape) > 1:
        value = rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
    elif name.endswith('running_var') or name.endswith('weight'):
        value = rng.uniform(0.5, 1.5, shape)
    else:
        value = rng.uniform(-0.5, 0.5, shape)
    return value.astype('float32')


def images(side):
    """Return two normalised images (2,3,side,side), float32."""
    return np.random.RandomState(0).standard_normal((2, 3, side, side)).astype('float32')


def build(net):
    import torch
    library, name, side, last = NETS[net]
    if library == 'torchvision':
        import torchvision
        more = {'aux_logits': False, 'init_weights': False, 'transform_input': True} if name == 'inception_v3' else {}
        model = getattr(torchvision.models, name)(num_classes=CLASSES, **more)
    else:
        import timm
        model = timm.create_model(name, num_classes=CLASSES)
    state = {key: value if key.endswith('num_batches_tracked') else torch.from_numpy(draw(key, tuple(value.shape)))
             for key, value in model.state_dict().items()}
    model.load_state_dict(state)
    return model.eval()


def compute(model, net):
    """Return the outputs of ``model``: dict of 'logits' (2,10), but for VGG, and 'map' (2,C,h,w)."""
    import torch
    _, name, side, last = NETS[net]
    maps = []
    model.get_submodule(last).register_forward_hook(lambda module, inputs, output: maps.append(output.clone()))
    with torch.no_grad():
        logits = model(torch.from_numpy(images(side)))
    if name.startswith('densenet'):
        maps[0].relu_()  # torchvision closes the net outside of its features
    results = {'map': maps[0].numpy()}
    return results if name.startswith('vgg') else {'logits': logits.numpy(), **results}


def main(arguments):
    import torch
    torch.set_num_threads(1)
    if arguments[:1] == ['--check']:
        from safetensors.torch import load_file
        net, path, outputs = arguments[1:]
        model = build(net)
        for parameter in model.parameters():
            parameter.data.zero_()  # so that only what is loaded can give the outputs
        strict = not NETS[net][1].startswith('vgg')  # fc6, fc7 and the classifier cannot be there
        print(model.load_state_dict(load_file(path), strict=strict))
        for name, value in compute(model, net).items():
            expected = np.load(outputs)[name]
            error = np.abs(value - expected).max() / np.abs(expected).max()
            print(name, error)
            assert error < 1e-4
    elif arguments:
        from safetensors.torch import save_file
        net, folder = arguments
        model = build(net)
        torch.save(model.state_dict(), os.path.join(folder, 'weights.pth'), _use_new_zipfile_serialization=False)
        save_file(model.state_dict(), os.path.join(folder, 'weights.safetensors'))
        np.savez(os.path.join(folder, 'outputs.npz'), **compute(model, net))
    else:
        results = {}
        for net in NETS:
            for name, value in compute(build(net), net).items():
                results[f'{net} {name}'] = value if name == 'logits' else value.ravel()[::7][:2048]
        np.savez_compressed(os.path.join(os.path.dirname(os.path.abspath(__file__)), 'torch_parity.npz'), **results)


if __name__ == '__main__':
    main(sys.argv[1:])
