"""A backbone with one linear layer on its pooled vector: the plain classification network."""
from mxnet.gluon import HybridBlock, nn


class Classifier(HybridBlock):
    """``scores = W · dropout(pool(body(images))) + b``.

    :param body: a Backbone (has ``pool`` and ``pool_units``), initialised.
    :param num_classes: K. The layer's input size is given, so a wrong size fails at construction.
    :param dropout: share of the pooled vector dropped in training.

    Input: images (N,3,H,W), normalised. Output: scores (N,K). Gradient flows everywhere.
    """

    def __init__(self, body, num_classes, dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.body = body
            self.dropout = nn.Dropout(dropout)
            self.classifier = nn.Dense(num_classes, in_units=body.pool_units)

    def split(self):
        """Return two blocks on the same parameters, ``(trunk, top)``: pooled features (N,C), and scores from them."""
        trunk, top = nn.HybridSequential(prefix=''), nn.HybridSequential(prefix='')
        trunk.add(self.body, self.body.pool)
        top.add(self.dropout, self.classifier)
        return trunk, top

    def hybrid_forward(self, F, images):
        features = self.body.pool(self.body(images))       # (N,C)
        return self.classifier(self.dropout(features))     # (N,K)
