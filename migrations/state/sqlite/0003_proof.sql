-- What the continuous comparison has proven of one table in one sink. `voided` counts how often that became void; `step`:
-- the batch of the sink's checkpoint at that time. `looked_at`: of the range that waits longest; `content`: the ranges.
CREATE TABLE proof (
  sink TEXT NOT NULL,
  table_id TEXT NOT NULL,
  since TEXT NOT NULL,
  voided INTEGER NOT NULL DEFAULT 0,
  step INTEGER NOT NULL DEFAULT 0,
  looked_at TEXT,
  proven_at TEXT,
  position TEXT,
  ranges INTEGER NOT NULL DEFAULT 0,
  missing INTEGER NOT NULL DEFAULT 0,
  extra INTEGER NOT NULL DEFAULT 0,
  different INTEGER NOT NULL DEFAULT 0,
  content TEXT,
  PRIMARY KEY (sink, table_id)
) STRICT;
CREATE INDEX proof_looked_at ON proof (looked_at);
