"""Learning rates that fall from the last block of a backbone to its first: what is general moves least.

Clark et al., "ELECTRA", ICLR 2020, and Bao et al., "BEiT", ICLR 2022, for fine-tuning.
"""
import re

# A block is a child of the stem or of a stage, anywhere in the network: ``body.stage4.0`` of body.stage4.0.conv1.weight
_BLOCK = re.compile(r'((?:.*\.)?)(stem|stage\d+)\.([^.]+)\.')


def factors(names, decay):
    """Return structural name → factor on the learning rate of each parameter in a block of a backbone.

    A backbone's last block has 1, the one before it ``decay``, the one before that ``decay``². What is in no block,
    such as a classifier, is not in the dict. Of several backbones each begins anew.

    :param names: structural names in the order of construction, which is that of the blocks.
    """
    blocks = {}  # prefix of the backbone → its blocks in order → number
    found = {name: _BLOCK.match(name) for name in names}
    for match in filter(None, found.values()):
        own = blocks.setdefault(match[1], {})
        own.setdefault(match.group(2, 3), len(own))
    return {name: decay ** (len(blocks[match[1]]) - 1 - blocks[match[1]][match.group(2, 3)])
            for name, match in found.items() if match}
