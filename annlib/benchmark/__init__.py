"""annlib against `keras.Model.fit` and other frameworks, and on several workers: what `jobs/benchmark.py` runs."""
