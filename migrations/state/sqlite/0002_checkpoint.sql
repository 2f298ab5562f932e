-- The checkpoints of sinks that keep nothing themselves: what a program follows. `tables`, `bond`: as sinks store them.
CREATE TABLE checkpoint (
  sink TEXT PRIMARY KEY,
  position TEXT NOT NULL,
  tables TEXT NOT NULL,
  bond TEXT NOT NULL
) STRICT;
