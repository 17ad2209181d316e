"""Network pieces: pure HybridBlocks that know nothing of configurations or data."""
from gluon_fgvc import machine

machine.prepare()  # before anything imports mxnet

from gluon_fgvc.nn.art import SimilarityTransform, redundancy_mask
from gluon_fgvc.nn.as_in_prediction import as_in_prediction
from gluon_fgvc.nn.attend_rectify import AttendRectify, GlobalGates
from gluon_fgvc.nn.attention_conv import (
    AttentionConv2D,
    attention_convolutions,
    fold_attention,
    replace_convolutions,
)
from gluon_fgvc.nn.attention_in_batch_norm import attention_in_batch_norm
from gluon_fgvc.nn.batch_norm_relu import BatchNormReLU
from gluon_fgvc.nn.class_activation import class_activation
from gluon_fgvc.nn.classifier import Classifier
from gluon_fgvc.nn.first_output import FirstOutput
from gluon_fgvc.nn.isqrt_cov import ISQRTCov
from gluon_fgvc.nn.losses import contrastive_loss, restriction_loss
from gluon_fgvc.nn.normalize import Normalize
from gluon_fgvc.nn.samplers import AttentionSampler, SaliencySampler, UniformSampler
from gluon_fgvc.nn.spatial_transformer import SpatialTransformer, affine_sample
from gluon_fgvc.nn.trilinear import DetailMap, StructureMap, TrilinearAttention

__all__ = ['AttendRectify', 'AttentionConv2D', 'AttentionSampler', 'BatchNormReLU', 'Classifier', 'DetailMap',
           'FirstOutput', 'GlobalGates', 'ISQRTCov', 'Normalize', 'SaliencySampler', 'SimilarityTransform',
           'SpatialTransformer', 'StructureMap', 'TrilinearAttention', 'UniformSampler', 'affine_sample',
           'as_in_prediction', 'attention_convolutions', 'attention_in_batch_norm', 'class_activation',
           'contrastive_loss', 'fold_attention', 'redundancy_mask', 'replace_convolutions', 'restriction_loss']
