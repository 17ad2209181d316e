"""Words that code and command line choose between, where nothing heavy is imported: ``--help`` must be quick."""

VIEWS = ('flip', 'ten_crop', 'multi_scale')                    # of test-time augmentation
RANKINGS = ('attention', 'l1', 'taylor')                       # of channels, for pruning
TORCH = ('torchvision', 'timm', 'efficientnet_lite_pytorch')   # whose names a torch file has
ENGINES = ('auto', 'mxnet', 'mxnet_fused', 'onnxruntime')         # that run an exported model
CALIBRATIONS = ('minmax', 'percentile', 'entropy')               # of what int8 takes as the range of activations
FORMATS = ('onnx', 'float16', 'bfloat16', 'int8')              # that an export may have besides its symbol
