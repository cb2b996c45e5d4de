"""Detection quality on public tabular sets, against peers in the same run and split."""
