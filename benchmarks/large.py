"""A Parquet file of the shape of Yambda, the log of a music service: few users, many items, long histories.

  python -m benchmarks.large FILE.parquet [USERS ITEMS INTERACTIONS]
"""
import sys

import numpy as np

from src.stat_utils import generator

USERS, ITEMS, INTERACTIONS = 20_000, 934_000, 100_000_000
LEAST = 5  # interactions of a user
EXPONENT, SHIFT = 0.7, 10  # of popularity: about one interaction in fifteen repeats one of the same user
STEP, SPAN = 5, 300 * 86_400  # seconds: what times are multiples of, and how long the log is
ROWS = 1 << 20  # of a row group, on average


def write_yambda(path, users=USERS, items=ITEMS, interactions=INTERACTIONS, seed=1):
    """Writes uid, timestamp, item_id (uint32) and is_organic (uint8) by uid and time, a row group in memory at a time.

    Ids have gaps, and several interactions of a user may have one time.
    """
    import pyarrow as pa
    from pyarrow import parquet

    rng = generator(seed, "yambda")
    share, ids = rng.lognormal(0, 1, users), 7 * rng.permutation(items) + 3
    lengths = LEAST + rng.multinomial(interactions - LEAST * users, share / share.sum())
    low, high = SHIFT ** (1 - EXPONENT), (items + SHIFT) ** (1 - EXPONENT)
    schema = pa.schema([*((name, pa.uint32()) for name in ("uid", "timestamp", "item_id")), ("is_organic", pa.uint8())])
    with parquet.ParquetWriter(path, schema) as file:
        for block in np.array_split(np.arange(users), -(-interactions // ROWS)):
            user = np.repeat(block, lengths[block])
            time = rng.integers(SPAN // STEP, size=len(user))
            time = time[np.lexsort((time, user))]
            rank = (low + rng.random(len(user)) * (high - low)) ** (1 / (1 - EXPONENT)) - SHIFT
            item = ids[np.minimum(rank.astype(np.int64), items - 1)]
            columns = 100 * user + 1, STEP * time, item, rng.integers(2, size=len(user))
            file.write_table(pa.table([pa.array(values, kind.type) for values, kind in zip(columns, schema)], schema))


if __name__ == "__main__":
    write_yambda(sys.argv[1], *map(int, sys.argv[2:]))
