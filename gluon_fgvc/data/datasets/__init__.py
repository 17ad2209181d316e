"""Data sets, one file each; a file's name is the data set's name."""
