"""The same training for several configurations, seeds and folds: runs, results, comparison."""
