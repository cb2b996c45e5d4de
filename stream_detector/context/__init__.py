"""What a record's entity did before: short memory that is a pure function of the partition's log."""
