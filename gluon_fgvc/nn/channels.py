"""One of several channels, whatever layout oneDNN keeps them in."""


def channel(F, x, index):
    """Return channel ``index`` of ``x`` (N,C,…) as (N,…). Gradient flows to that channel.

    ``x[:, index]`` and ``F.slice`` are not the same: MXNet 1.9.1 hands them to oneDNN, which keeps channels in blocks
    of 8 or 16, depending on the processor, and cannot cut within a block. It then raises "could not construct a
    sub-memory", or ends the process. ``slice_axis`` reads plain memory. A test keeps the others out of networks.
    """
    return F.squeeze(F.slice_axis(x, axis=1, begin=index, end=index + 1), axis=1)
