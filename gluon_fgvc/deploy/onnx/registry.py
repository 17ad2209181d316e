"""Which function translates which operator of MXNet."""
TRANSLATIONS = {}  # operator → function(graph, node) → value, or a list of values for several outputs


def translates(*operators):
    """Register the decorated function of (graph, node) for MXNet operators; it may raise NotImplementedError."""
    def register(function):
        TRANSLATIONS.update((operator, function) for operator in operators)
        return function
    return register


def table(function, **names):
    """Register ``function(graph, node, ONNX operator)`` for each MXNet operator of ``names``."""
    for name, operator in names.items():
        TRANSLATIONS[name] = lambda graph, node, operator=operator: function(graph, node, operator)
