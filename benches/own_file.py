"""Writes a Parquet file with the name, place and encodings of kymo's own."""

import datetime

import pyarrow
import pyarrow.parquet as parquet


def write(table, first_us, first_seq, arrays, fields):
    """Rows of one day, in the order of time, into the folder `table` of a lake with its `host=…`. Returns the number of the next row."""
    start = datetime.datetime.fromtimestamp(first_us / 1_000_000, datetime.UTC)
    rows = pyarrow.Table.from_arrays(arrays, schema=pyarrow.schema(fields, metadata={"kymo.in_order": "true"}))
    place = table / f"date={start:%Y-%m-%d}"
    place.mkdir(parents=True, exist_ok=True)
    next_seq = first_seq + rows.num_rows
    parquet.write_table(
        rows,
        place / f"{start:%Y%m%dT%H%M%S.%fZ}_{first_seq}-{next_seq - 1}.parquet",
        compression="zstd",
        compression_level=1,
        row_group_size=1 << 20,
        data_page_size=1 << 17,
        write_page_index=True,
        store_schema=False,
    )
    return next_seq
