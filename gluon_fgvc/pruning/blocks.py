"""The blocks of a network by their structural names."""


def blocks_of(block, path=''):
    """Return dict of structural name → block, of all blocks inside ``block``."""
    found = {}
    for name, child in block._children.items():
        found[path + name] = child
        found.update(blocks_of(child, f'{path}{name}.'))
    return found
