"""The speed benchmark: ratios inside one run, a table and a last line for machines a part."""
