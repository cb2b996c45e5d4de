"""Tables that people have: files and standard input read as rows of named values, and results written.

`reading` opens any of the formats, `delimited` reads CSV and its kin, `frames` takes what Python programs hold,
`records` says which columns are features, `writing` writes columns.
"""

from stream_detector.tables.reading import read_table

__all__ = ["read_table"]
