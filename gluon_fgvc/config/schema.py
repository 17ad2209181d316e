"""What a configuration holds: five sections, each key with its documentation, type and range.

Data sets and methods own their options (a dataclass beside their code), so that a new one needs no edit here.
"""
import dataclasses
from dataclasses import dataclass, field
from typing import Any, Optional, Tuple, Union

MAX_SIDE = 16_384  # pixels; a slip of the finger must not ask for all the memory there is


def option(default=dataclasses.MISSING, doc='', *, minimum=None, maximum=None, above=None, below=None,
           choices=None, variants=None, untrained=None):
    """A dataclass field with its documentation and the rule its values obey.

    ``minimum``/``maximum`` are inclusive bounds, ``above``/``below`` exclusive ones; for tuples they
    hold for each element. ``variants`` maps the value of the key ``name`` to a dataclass (used for
    optimizers and schedules). ``untrained`` marks an option that names pretrained parameters: it is the value that
    names none, which a network is built with when its parameters come from a checkpoint. Public, because data sets
    and methods declare their options with it.
    """
    rules = dict(doc=doc, minimum=minimum, maximum=maximum, above=above, below=below,
                 choices=choices, variants=variants, untrained=untrained)
    metadata = {key: value for key, value in rules.items() if value is not None}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


# --- data ------------------------------------------------------------------------------------

@dataclass(frozen=True)
class NoPolicy:
    """Training images are changed by the other keys alone."""

    name: str = 'none'


@dataclass(frozen=True)
class TrivialAugment:
    """One random operation of random strength an image (Müller and Hutter, ICCV 2021), in the paper's wide ranges."""

    name: str = 'trivial_augment'


@dataclass(frozen=True)
class RandAugment:
    """A few random operations of one strength an image (Cubuk et al., NeurIPS 2020)."""

    name: str = 'rand_augment'
    operations: int = option(2, 'N, one after another', minimum=1, maximum=14)
    magnitude: float = option(9.0, 'M, of 30, at which an operation is strongest', minimum=0, maximum=30)


POLICIES = {'none': NoPolicy, 'trivial_augment': TrivialAugment, 'rand_augment': RandAugment}


@dataclass(frozen=True)
class TrainView:
    """How a training image is prepared, in this order; sizes in pixels."""

    resize: Union[int, Tuple[int, int], None] = option(
        None, 'shorter side, or [height, width] without crop', minimum=1, maximum=MAX_SIDE)
    pad: int = option(0, 'pixels mirrored around the image before the crop, as is usual for CIFAR', minimum=0,
                      maximum=MAX_SIDE)
    crop: Optional[int] = option(None, 'side of a random square crop', minimum=1, maximum=MAX_SIDE)
    random_resized_crop: Optional[int] = option(
        None, 'side of a crop of random area and aspect; replaces resize and crop', minimum=1, maximum=MAX_SIDE)
    scale: Tuple[float, float] = option((0.08, 1.0), 'area range of random_resized_crop', above=0, maximum=1)
    ratio: Tuple[float, float] = option((0.75, 4 / 3), 'aspect range of random_resized_crop', above=0)
    flip: bool = option(False, 'mirror left-right with probability 1/2')
    flip_vertical: bool = option(False, 'mirror top-bottom with probability 1/2')
    transpose: bool = option(False, 'swap rows and columns with probability 1/2 (with both flips: all '
                                    'eight symmetries of the square)')
    rotation: float = option(0.0, 'largest rotation in degrees, either way', minimum=0, maximum=180)
    color_jitter: float = option(0.0, 'largest relative change of brightness, contrast and saturation',
                                 minimum=0, below=1)
    pca_noise: float = option(0.0, "standard deviation of AlexNet's noise along the principal colours of ImageNet, "
                                   'usually 0.1', minimum=0)
    policy: Any = option(NoPolicy, 'random operations', variants=POLICIES)
    erasing: float = option(0.0, 'probability that a random rectangle is filled with noise', minimum=0, maximum=1)


@dataclass(frozen=True)
class EvalView:
    """How an image is prepared outside training; nothing here is random."""

    resize: Union[int, Tuple[int, int], None] = option(
        None, 'shorter side, or [height, width] without crop', minimum=1, maximum=MAX_SIDE)
    crop: Optional[int] = option(None, 'side of the centre crop', minimum=1, maximum=MAX_SIDE)


@dataclass(frozen=True)
class DataConfig:
    """Which images, how they are prepared and batched. ``options`` belong to the data set."""

    name: str = option(doc='data set: a file of gluon_fgvc/data/datasets')
    train: TrainView = option(TrainView, 'preparation of training images')
    eval: EvalView = option(EvalView, 'preparation of validation, test and new images')
    batch_size: int = option(32, 'images per step over all contexts', minimum=1)
    workers: int = option(2, 'how many load images at once; 0 loads in the main thread', minimum=0, maximum=256)
    worker_type: str = option('process', 'what workers are: threads copy nothing, but share one Python interpreter',
                              choices=('process', 'thread'))
    timeout: int = option(300, 'seconds after which a worker process that is stuck at one image ends the run, naming '
                               'the image; 0 waits for ever', minimum=0)
    cache: int = option(0, 'MiB of memory, for each split, that keep decoded and resized images for later epochs',
                        minimum=0)
    sampler: str = option('shuffled', "which training images make up an epoch: 'shuffled' all of them once, 'weighted' "
                                      'as many, drawn with replacement so that all classes come equally often',
                          choices=('shuffled', 'weighted'))
    last_batch: str = option('discard', "a last batch of an epoch of training that is not full: 'discard' or 'keep' it",
                             choices=('keep', 'discard'))
    val_fraction: float = option(0.1, 'stratified fraction of train held out for choosing the epoch; ignored '
                                   'where the data set has a validation split', minimum=0, below=1)
    val_seed: int = option(0, 'seed of that split, of the folds and of per_class, kept apart from run.seed so that '
                              'seeds share them', minimum=0)
    folds: int = option(0, 'into how many stratified folds all images are dealt, units of images kept together, for '
                           'cross-validation; 0 keeps the splits of the data set', minimum=0)
    units: Optional[str] = option(None, 'list of images that val_fraction and folds keep together, a CSV file with the '
                                        'columns path and unit; fgvc doctor data --units writes one of look-alikes')
    fold: Optional[int] = option(None, 'the fold, counted from 0, that is the test split', minimum=0)
    per_class: Optional[int] = option(None, 'most training images of a class that are used, drawn once the validation '
                                            'split is taken out; a larger number keeps those of a smaller one',
                                      minimum=1)
    mean: Optional[Tuple[float, float, float]] = option(
        None, 'RGB mean on [0, 1]; null takes what the backbone was trained with', minimum=0, maximum=1)
    std: Optional[Tuple[float, float, float]] = option(
        None, 'RGB standard deviation on [0, 1]; null as for mean', above=0, maximum=1)
    bad_image: str = option('fail', 'what a broken image does', choices=('fail', 'skip'))
    options: Any = None

    def __post_init__(self):
        if self.folds and hasattr(self.options, 'fold'):
            raise ValueError(f"folds: data set '{self.name}' brings folds of its own; leave it out, and choose one by "
                             'fold')
        if self.folds == 1:
            raise ValueError('folds is 1; cross-validation needs 2 or more')
        if self.fold is None and self.folds:
            raise ValueError(f'folds is {self.folds} but fold is not given; set it to 0 to {self.folds - 1}')
        if self.fold is not None and self.fold >= self.folds:
            raise ValueError(f'fold {self.fold} is not below folds, {self.folds}; set data.folds, e.g. to 5'
                             if not self.folds else
                             f'fold {self.fold} is not one of the {self.folds} folds, 0 to {self.folds - 1}')


# --- backbone and method ---------------------------------------------------------------------

@dataclass(frozen=True)
class BackboneConfig:
    """Which network carries the method, and where its weights come from."""

    name: str = option(doc='a name of gluon_fgvc.backbones.available()')
    weights: str = option('zoo', "'zoo', 'none', 'package:efficientnet-lite0' (1, 2), a file's path or "
                                    'URL#sha256=DIGITS',
                          untrained='none')
    global_pool: str = option('gap', "how the last map becomes a vector: 'isqrt_cov' of 32,896 numbers, "
                                    "'isqrt_cov_128' of 8,256", choices=('gap', 'isqrt_cov', 'isqrt_cov_128'))
    output_stride: Optional[int] = option(
        None, 'stride of the last map instead of its own (32); null changes nothing', choices=(None, 8, 16))
    dilate: bool = option(True, 'with output_stride: spread the convolutions behind a stride that is gone')
    widths: Optional[str] = option(None, 'path of a channel plan as fgvc prune writes it; null is all channels')
    batch_norm: str = option('method', "whose statistics the pretrained BatchNorm layers use in training: 'method' as "
                                       "each phase of the method says, 'fixed' their running ones in all phases, which "
                                       'is often better for few images a class; layers that a method adds are not held',
                             choices=('method', 'fixed'))
    dropout: float = option(0.0, 'fraction of channels dropped between the convolutions of a block in training; for '
                                 'the wide ResNets warn_wideresnet*', minimum=0, below=1)


@dataclass(frozen=True)
class MethodConfig:
    """Which method is trained. ``options`` belong to the method."""

    name: str = option(doc='a file of gluon_fgvc/methods')
    options: Any = None


# --- train -----------------------------------------------------------------------------------

@dataclass(frozen=True)
class Optimizer:
    """What all optimizers have."""

    lr: float = option(doc='learning rate', minimum=0)
    layer_decay: float = option(1.0, 'factor on the learning rate from each block of the backbone to the one before '
                                     'it; the last has the full rate', above=0, maximum=1)
    decay_norms: bool = option(True, 'whether weight decay applies to biases and to the scales and shifts of '
                                     'normalisation, too, as in the d2l book')
    clip_norm: Optional[float] = option(None, 'bound on the norm of the gradient of all parameters together', above=0)


@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent."""

    name: str = 'sgd'
    momentum: float = option(0.9, '', minimum=0, below=1)
    wd: float = option(0.0, 'weight decay', minimum=0)
    clip_gradient: Optional[float] = option(None, 'bound on each gradient element', above=0)


@dataclass(frozen=True)
class NAG(SGD):
    """SGD with Nesterov's accelerated gradient."""

    name: str = 'nag'


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam (Kingma and Ba 2015); weight decay is the L2 kind, added to the gradient."""

    name: str = 'adam'
    beta1: float = option(0.9, '', minimum=0, below=1)
    beta2: float = option(0.999, '', minimum=0, below=1)
    epsilon: float = option(1e-8, '', above=0)
    wd: float = option(0.0, 'weight decay', minimum=0)
    clip_gradient: Optional[float] = option(None, 'bound on each gradient element', above=0)


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay: each step takes lr · wd of the weights (Loshchilov and Hutter 2019)."""

    name: str = 'adamw'
    wd: float = option(0.01, 'weight decay', minimum=0)


@dataclass(frozen=True)
class Constant:
    """The learning rate stays as it is."""

    name: str = 'constant'
    warmup: float = option(0.0, 'epochs of linear warm-up from 0', minimum=0)


@dataclass(frozen=True)
class Step:
    """Multiply the learning rate by ``factor`` every ``every`` epochs, or at each of ``at``."""

    name: str = 'step'
    every: Optional[int] = option(None, 'epochs between steps', minimum=1)
    at: Tuple[int, ...] = option((), 'epochs at which to step, instead of every', minimum=1)
    factor: float = option(0.1, '', above=0)
    warmup: float = option(0.0, 'epochs of linear warm-up from 0', minimum=0)

    def __post_init__(self):
        if bool(self.at) == (self.every is not None):
            raise ValueError("step needs either 'every' or 'at'")


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from the learning rate down to ``final`` times it, after the warm-up."""

    name: str = 'cosine'
    final: float = option(0.0, 'fraction of the learning rate at the end', minimum=0, maximum=1)
    warmup: float = option(0.0, 'epochs of linear warm-up from 0', minimum=0)


@dataclass(frozen=True)
class Poly:
    """(1 - progress)^power from the learning rate down to ``final`` times it, after the warm-up."""

    name: str = 'poly'
    power: float = option(2.0, '', above=0)
    final: float = option(0.0, 'fraction of the learning rate at the end', minimum=0, maximum=1)
    warmup: float = option(0.0, 'epochs of linear warm-up from 0', minimum=0)


OPTIMIZERS = {'sgd': SGD, 'nag': NAG, 'adam': Adam, 'adamw': AdamW}
SCHEDULES = {'constant': Constant, 'step': Step, 'cosine': Cosine, 'poly': Poly}


@dataclass(frozen=True)
class TrainConfig:
    """How long and with what the parameters move."""

    epochs: int = option(doc='passes over the training images', minimum=1)
    optimizer: Any = option(doc='', variants=OPTIMIZERS)
    schedule: Any = option(Constant, '', variants=SCHEDULES)
    label_smoothing: float = option(0.0, 'probability mass spread evenly over all classes', minimum=0, below=1)
    accumulate: int = option(1, 'parts that a batch is computed in, one after another, whose gradients are added up: '
                                'a large batch in little memory; BatchNorm sees a part', minimum=1)
    mixup: float = option(0.0, 'parameter of the Beta distribution that mixes pairs of images; 0 is off', minimum=0)
    cutmix: float = option(0.0, 'parameter of the Beta distribution of the area that pairs of images exchange; 0 is '
                                'off', minimum=0)
    cutmix_share: float = option(0.5, 'share of the batches that get cutmix where both are on; the others get mixup',
                                 minimum=0, maximum=1)
    focal_gamma: float = option(0.0, 'γ of the focal loss, which counts sure answers for less; 0 is cross-entropy',
                                minimum=0)
    logit_adjustment: float = option(0.0, 'τ: in training, τ times the log of the frequency of its class is added to '
                                          'each logit, so that rare classes win a margin; 0 is off', minimum=0)
    pairwise_confusion: float = option(0.0, 'λ: weight of the squared distance between the probabilities of images of '
                                            'different classes; 0 is off', minimum=0)
    class_weights: Union[str, Tuple[float, ...]] = option(
        'none', "'none', 'balanced' (N / (K n_k)) or one factor per class")
    ema: float = option(0.0, 'decay per step of an exponential moving average of the parameters, which '
                             'is then what is evaluated and kept; 0 is off; after t steps it is no more than '
                             '(1 + t) / (10 + t), so that the start is soon forgotten', minimum=0, below=1)
    select_by: str = option('top1', "what validation chooses the epoch by (loss, or top1, breaks ties); 'nll' is "
                                    "another word for 'loss', in which a small split is steadier",
                            choices=('top1', 'loss', 'nll', 'mean_class', 'macro_f1'))


# --- run -------------------------------------------------------------------------------------

@dataclass(frozen=True)
class RunConfig:
    """Where and how a run executes, when it stops early, and its seed."""

    seed: int = option(0, '', minimum=0, maximum=2 ** 31 - 1)
    contexts: Union[str, Tuple[str, ...]] = option(
        'auto', "'auto' (all GPUs, else the CPU) or a list such as [gpu0, gpu1] or [cpu0, cpu1]")
    kvstore: str = option('device', 'how gradients are summed over contexts; dist_sync (on CPUs) and '
                                  'dist_device_sync (on GPUs) also over processes, see fgvc launch; '
                                  'dist_async is refused, as servers know no schedules',
                        choices=('local', 'device', 'nccl', 'dist_sync', 'dist_device_sync', 'dist_async'))
    sync_batch_norm: bool = option(False, 'BatchNorm takes mean and variance over the images of all GPUs of a process')
    hybridize: bool = option(True, 'compile the network with static memory')
    log_every: int = option(20, 'steps between log lines (one synchronisation each)', minimum=1)
    log_gradients: int = option(0, 'steps between lines with the norm of each loss term\'s gradient, which cost a step '
                                   'a term and change nothing; 0 is off', minimum=0)
    save_every: int = option(1, 'epochs between checkpoints', minimum=1)
    save_every_batches: int = option(0, 'batches between checkpoints within an epoch; 0 is none', minimum=0)
    early_stop_patience: int = option(0, 'epochs without a better validation result before stopping; 0 is off',
                                      minimum=0)
    pointing_game: bool = option(False, 'evaluations also play the energy-based pointing game: which fraction of the '
                                        'class activation lies in the boxes of the data set')
    tensorboard: bool = option(False, 'also write curves for TensorBoard into the run folder; needs tensorboardX')
    work_dir: str = option('work_dirs', 'folder that receives the run folders')


# Keys that change where and how a run executes but not what it learns.
EXECUTION_KEYS = ('run.contexts', 'run.kvstore', 'run.log_every', 'run.log_gradients', 'run.save_every',
                  'run.save_every_batches', 'run.tensorboard', 'run.work_dir', 'data.workers', 'data.worker_type',
                  'data.timeout')


@dataclass(frozen=True)
class Config:
    """A complete run: everything that was decided, nothing that was measured."""

    data: DataConfig
    backbone: BackboneConfig
    method: MethodConfig
    train: TrainConfig
    run: RunConfig
