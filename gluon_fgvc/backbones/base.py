"""A network without its classifier, seen as a stem, stages and a pool."""
import json
from dataclasses import dataclass, field
from typing import Callable, Mapping, Tuple

from mxnet import gluon, nd, sym
from mxnet.gluon import nn

from gluon_fgvc.errors import ConfigError, did_you_mean
from gluon_fgvc.nn import ISQRTCov

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
POOLS = {'gap': None, 'isqrt_cov': 256, 'isqrt_cov_128': 128}  # name → channels whose covariance is taken
_SIDES = 256, 320  # two images whose sides differ by a multiple of every stride


@dataclass(frozen=True)
class Naming:
    """How one kind of weight file calls the parameters of a backbone."""

    kind: str                                  # for messages: whose names these are
    parameters: Mapping[str, gluon.Parameter]  # name in the file → parameter of the backbone
    classifier: Tuple[str, str]                # names of weight and bias of the classifier on top, '' if none
    unused: str = r'(?!)'                      # regex of further names that such files carry
    imagenet: bool = True                      # 1000 classes are ImageNet's, in its order
    decode: Callable[[dict], dict] = dict      # arrays of the file → arrays of the parameters, names unchanged
    encode: Callable[[dict], dict] = dict      # the inverse
    builders: Mapping[str, str] = field(default_factory=dict)  # library → Python that builds it, {} for classes


class Backbone(gluon.HybridBlock):
    """``stem``, ``stage1`` … ``stageN`` and ``pool``: images in, the last feature map out.

    A stage ends just before the resolution halves; the last one holds whatever BatchNorm and ReLU close the
    net. Earlier maps may be negative: those of pre-activation nets are sums, those of linear bottlenecks linear; and
    so may the last one be, after hard-swish or once stages are dropped. Any image size will do: the pools of fixed
    window before a zoo net's classifier give way to ``pool``.

    :param name: the attribute ``name`` and prefix of all parameters; it does not depend on other nets, so
        neither do the names in an exported graph.
    :param stem: list of layers before the first stage.
    :param stages: list of lists of layers.
    :param mean, std: 3-tuples, RGB on [0, 1]: how the images of its pretrained weights were normalised.
    :param global_pool: how ``pool`` turns a map (N,C,h,w) into a vector (N,pool_units); 'gap' averages it, 'isqrt_cov'
        is :class:`~gluon_fgvc.nn.ISQRTCov` of 256 channels, 'isqrt_cov_128' of 128, best on a map of stride 16
        (``output_stride``).
    :param stage_names: instead of ``stage1`` and so on.

    Attributes: ``stage_names``; ``channels`` and ``strides`` (against the image) of each stage's map; ``rectified``,
    for each of :meth:`rectified_maps`, whether it is never negative;
    ``pool_units``; ``built_as``, what :func:`gluon_fgvc.backbones.twin` repeats; ``source_classifier``, which is None
    or (weight (K0,C), bias (K0,), class names or None), what was on top of the pooled vector when the weights were
    trained; ``namings``, the tuple of :class:`Naming` of the files that fit, its own structural names first;
    ``pretrained``, whether weights were loaded.

    Inputs: images (N,3,H,W), normalised. Outputs: map (N,channels[-1],h,w), about H/strides[-1] high: convolutions
    and pools round as they were trained, and those of AlexNet, Inception and SqueezeNet cut a few pixels off.

    :raises ConfigError: if the pool is unknown.
    """

    def __init__(self, name, stem, stages, mean=IMAGENET_MEAN, std=IMAGENET_STD, global_pool='gap', stage_names=None):
        super().__init__(prefix=f'{name}_')
        self._name = name  # also inside the name scope of another block, where the prefix becomes longer
        if global_pool not in POOLS:
            raise ConfigError(f"backbone.global_pool: unknown name '{global_pool}'{did_you_mean(global_pool, POOLS)}")
        self.stage_names = stage_names or tuple(f'stage{number}' for number in range(1, len(stages) + 1))
        self.stem = _sequential(stem)
        for stage_name, layers in zip(self.stage_names, stages):
            setattr(self, stage_name, _sequential(layers))
        self.mean, self.std = tuple(mean), tuple(std)
        self.source_classifier, self.namings, self.pretrained = None, (self.naming(),), False
        self.infer_shapes()
        if POOLS[global_pool]:
            self.pool = ISQRTCov(POOLS[global_pool], in_channels=self.channels[-1], prefix=f'{name}_pool_')
            self.pool_units = self.pool.units
        else:
            self.pool = _sequential([nn.GlobalAvgPool2D(), nn.Flatten()])
            self.pool_units = self.channels[-1]
        self._find_openings()

    def infer_shapes(self):
        """Set ``channels``, ``strides`` and the shapes of all parameters outside ``pool``, which files are held to."""
        maps = sym.Group(self.stage_maps(sym.var('images')))
        inputs, outputs, states = maps.infer_shape(images=(1, 3, _SIDES[0], _SIDES[0]))
        shapes = dict(zip(maps.list_arguments() + maps.list_auxiliary_states(), inputs + states))
        for name in ('stem', *self.stage_names):
            for parameter in getattr(self, name).collect_params().values():
                parameter.shape = shapes[parameter.name]
        self.channels, self.strides = tuple(shape[1] for shape in outputs), strides_of(maps)

    def keep_stages(self, count):
        """Drop all stages after the first ``count``, for a cheaper net with a smaller stride.

        Weights are loaded before, since files are held to the whole net. The last map may then be negative.

        :raises ConfigError: if there are not as many stages, or if the pool was made for the last map.
        """
        if not 1 <= count <= len(self.stage_names) or self.pool_units != self.channels[-1]:
            raise ConfigError(f"backbone '{self.name}' cannot be cut to {count} stages: it has "
                              f'{len(self.stage_names)}, and its global pool must be gap')
        for name in self.stage_names[count:]:
            del self._children[name]
            delattr(self, name)
        self.stage_names, self.channels, self.strides = (
            values[:count] for values in (self.stage_names, self.channels, self.strides))
        self.pool_units, self.source_classifier = self.channels[-1], None
        self._find_openings()

    def stage_maps(self, images):
        """Return the tuple of maps (N,C,h,w), one after each stage; ``images`` is an NDArray or a Symbol."""
        maps, x = [], self.stem(images)
        for stage_name in self.stage_names:
            x = getattr(self, stage_name)(x)
            maps.append(x)
        return tuple(maps)

    def rectified_maps(self, images):
        """Return :meth:`stage_maps`, those of pre-activation nets after the BatchNorm and ReLU that read them next.

        Such a net ends a stage with a bare sum; the next stage begins with BN-ReLU, and what convolutions see there
        is what is returned. That BatchNorm's statistics are used and not moved, since the stage moves them. All other
        maps are as they are: rectified already or, as ``rectified`` tells, not: linear bottlenecks' (MobileNetV2,
        EfficientNet) are of any size and sign, and need a :class:`~gluon_fgvc.nn.BatchNormReLU` before they are read.
        """
        maps = self.stage_maps(images)
        return tuple(opening(x) if opening else x for x, opening in zip(maps, self._openings))

    def _find_openings(self):
        """Set for each stage the :class:`_Opening` that reads its map, None where there is none, and ``rectified``."""
        maps = sym.Group(self.stage_maps(sym.var('images')))
        layers = {}
        self.apply(lambda block: layers.update({block.gamma.name: block} if isinstance(block, nn.BatchNorm) else {}))
        graph = json.loads(maps.tojson())
        readers = {node['inputs'][0][0]: _Opening(layers[graph['nodes'][node['inputs'][1][0]]['name']])
                   for node in graph['nodes'] if node['op'] == 'BatchNorm'}
        self._openings = [readers.get(head[0]) for head in graph['heads']]
        self.rectified = tuple(bool(opening) or _is_rectified(graph['nodes'], head[0])
                               for opening, head in zip(self._openings, graph['heads']))

    def hybrid_forward(self, F, images):
        return self.stage_maps(images)[-1]  # (N,C,h,w)

    def naming(self):
        """The structural names, as in ``save_parameters`` of this block or of a method's net."""
        return Naming('the backbone', self._collect_params_with_prefix(), ('classifier.weight', 'classifier.bias'),
                      imagenet=False)


def strides_of(maps):
    """Return how many pixels lie between neighbours of each map, for a Symbol whose outputs are maps of ``images``.

    That is how much the image grows where the map grows by one, exactly, whatever the layers cut off at the border.
    """
    smaller, larger = ([shape[2] for shape in maps.infer_shape(images=(1, 3, side, side))[1]] for side in _SIDES)
    return tuple((_SIDES[1] - _SIDES[0]) // (high - low) for low, high in zip(smaller, larger))


def _is_rectified(nodes, number):
    """Whether what node ``number`` of a graph gives is never negative: a ReLU, or made of such by pools and joins."""
    node = nodes[number]
    attributes = node.get('attrs', {})
    if node['op'] in ('Pooling', 'Concat', 'Dropout'):
        return all(_is_rectified(nodes, source[0]) for source in node['inputs'])
    return (node['op'] == 'relu' or node['op'] == 'Activation' and attributes['act_type'] == 'relu'
            or node['op'] == 'clip' and float(attributes['a_min']) >= 0)


class _Opening:
    """The BatchNorm and ReLU with which a stage of a pre-activation net begins, without moving its statistics."""

    def __init__(self, layer):
        self._parameters = layer.gamma, layer.beta, layer.running_mean, layer.running_var
        self._settings = layer._kwargs  # the layer's own, since a phase may switch use_global_stats

    def __call__(self, x):
        F, parameters = (sym, [p.var() for p in self._parameters]) if isinstance(x, sym.Symbol) else (
            nd, [p.data(x.context) for p in self._parameters])
        # With a momentum of 1 the moving averages keep their value.
        return F.relu(F.BatchNorm(x, *parameters, **{**self._settings, 'momentum': 1.0}))


def _sequential(layers):
    block = nn.HybridSequential(prefix='')
    block.add(*layers)
    return block
