"""Files of strangers, read strictly: archives, tables, MATLAB, CIFAR, RecordIO."""
