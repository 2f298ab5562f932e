-- The error over which the last daemon ended, until the next one starts. `error`: JSON.
CREATE TABLE ending (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  error TEXT NOT NULL
) STRICT;
