"""Search for hyperparameters: what `jobs/tune.py` calls."""
