-- What ties the sinks' checkpoints to this state (decision 15). The state's name: random, kept by export and import.
CREATE TABLE identity (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  state TEXT NOT NULL
) STRICT;

-- Each opening of a sink, in the order of `id`. `base`: the step of the checkpoint that it found; `obligation`: the number of
-- the last obligation that was stored for the sink, which goes on over sessions.
CREATE TABLE sink_session (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  sink TEXT NOT NULL,
  session TEXT NOT NULL,
  base INTEGER NOT NULL,
  obligation INTEGER NOT NULL,
  UNIQUE (sink, session)
) STRICT;

-- The step of the sink's checkpoint at which something that it owed of a table was settled last: a copy of the sink from
-- before owes it again.
CREATE TABLE settled (
  sink TEXT NOT NULL,
  table_id TEXT NOT NULL,
  step INTEGER NOT NULL,
  PRIMARY KEY (sink, table_id)
) STRICT;

-- `held` was a position, which does not tell two checkpoints at one place apart: now the step of the checkpoint. Of the reads
-- that are under way nobody knows it: they begin again.
ALTER TABLE refill DROP COLUMN held;
ALTER TABLE refill ADD COLUMN held INTEGER;
UPDATE refill SET state = 'waiting', attempt = attempt + 1, rules = NULL, sweep_below = NULL, cursor = NULL, rows_done = 0,
  chunks_done = 0, resumed_count = 0, started_at = NULL WHERE state = 'running';
