"""Small tables to make bad ones from."""

from typing import Any

import numpy as np
import pandas as pd


def table(num_rows: int = 40, **columns: Any) -> pd.DataFrame:
    """Returns columns size, colour and price, with these columns more or in their place."""
    generator = np.random.default_rng(0)
    found = pd.DataFrame(
        {
            "size": generator.normal(50, 10, num_rows),
            "colour": generator.choice(["red", "green", "blue"], num_rows),
            "price": generator.normal(1000, 100, num_rows),
        }
    )
    for name, values in columns.items():
        found[name] = values
    return found
