import re

import pytest

from gluon_fgvc import config, data, methods
from gluon_fgvc.commands import reference
from tests.small_run import ROOT


def test_the_committed_page_is_what_the_schema_says():
    assert (ROOT / 'docs' / 'configuration.md').read_text('utf-8') == reference.text(), \
        'write it again: python -m gluon_fgvc.commands.reference'


@pytest.mark.parametrize('path', sorted((ROOT / 'configs').rglob('*.yaml')), ids=lambda path: path.stem)
def test_every_key_of_the_configurations_is_on_the_page(path):
    documented = set(re.findall(r'^\| `([\w.]+)` \|', reference.text(), re.M))
    tree = config.to_tree(config.load(path, data_options=data.options, method_options=methods.options))

    def leaves(tree, prefix):
        for key, value in tree.items():
            if isinstance(value, dict) and value and f'{prefix}{key}' not in documented:
                yield from leaves(value, f'{prefix}{key}.')
            else:
                yield f'{prefix}{key}'
    assert set(leaves(tree, '')) <= documented
