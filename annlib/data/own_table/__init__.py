"""A table of the user's own, CSV or Parquet, as a data set: read, checked, split, and encoded by `annlib.data.columns`.

What cannot be trained on is an error of one line with column, number of rows and examples. What can be left out is left
out and told: a feature that is constant, has no values, or holds texts that are nearly all different, unless `features`
asks for it, which makes it an error. A column that tells the target is an error, unless `features` asks for it.
"""
