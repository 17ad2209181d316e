"""An exponential moving average of the parameters, evaluated and kept in place of the last step's."""
from contextlib import contextmanager

from mxnet import nd

from gluon_fgvc.nn.parameters import STATISTICS, contexts_of, structural


class ParameterAverage:
    """``average ← average + (1 − d) · (parameter − average)`` after each step, with d = min(decay, (1 + t) / (10 + t)).

    The rising decay lets the average forget the start quickly. BatchNorm's running statistics are
    averaged too, so that they fit the averaged weights. Kept on the first device.
    """

    def __init__(self, net, decay):
        self.decay, self.steps = decay, 0
        self.parameters = {name: p for name, p in structural(net).items() if _moves(name, p)}
        self.context = contexts_of(net)[0]
        self.arrays = {name: p.data(self.context).copy() for name, p in self.parameters.items()}

    def update(self):
        """Take one step; call it after the optimizer's.

        Waits for the step to end: a compiled backward pass moves BatchNorm's statistics without telling
        MXNet's scheduler, so that reading them right away would now and then give the old ones.
        """
        nd.waitall()
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        self.steps += 1
        for name, parameter in self.parameters.items():
            average = self.arrays[name]
            # In this form the average of a parameter that does not move is that parameter, bit for bit.
            average += (1 - decay) * (parameter.data(self.context) - average)

    def unite(self, team):
        """Give all processes of ``team`` the mean of their averages of statistics; those of weights are the same."""
        if team.size > 1:
            own = self.statistics()
            for (name, array), mean in zip(own.items(), team.mean(list(own.values()))):
                self.arrays[name] = mean.as_in_context(array.context)

    def statistics(self):
        """Return name → average (NDArray) of what BatchNorm moves by itself, of this process."""
        return {name: array for name, array in self.arrays.items() if name.endswith(STATISTICS)}

    @contextmanager
    def in_place(self):
        """Within the context the network carries the average; afterwards its own parameters, bit for bit."""
        own = {name: [array.copy() for array in p.list_data()] for name, p in self.parameters.items()}
        for name, parameter in self.parameters.items():
            parameter.set_data(self.arrays[name])
        try:
            yield
        finally:
            for name, parameter in self.parameters.items():
                for target, source in zip(parameter.list_data(), own[name]):
                    source.copyto(target)

    def state(self):
        """Return the averages as numpy arrays by structural name."""
        return {name: array.asnumpy() for name, array in self.arrays.items()}

    def restore(self, arrays, steps):
        """Take up where :meth:`state` left off."""
        self.steps = steps
        for name, target in self.arrays.items():
            target[:] = nd.array(arrays[name], ctx=self.context, dtype=target.dtype)


def _moves(name, parameter):
    return parameter._differentiable or name.endswith(STATISTICS)
