-- What Millrace remembers of one source. Positions are text, `epoch/commit/index` in decimal; keys are JSON arrays of
-- text; errors are JSON; times are RFC 3339 in UTC, or milliseconds since 1970 where the name ends in `_ms`.

-- The name in the configuration that this file belongs to.
CREATE TABLE store (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  name TEXT NOT NULL
) STRICT;

-- `number` grows with every acquisition and is never deleted; `expires_at_ms` 0 means released.
CREATE TABLE lease (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  number INTEGER NOT NULL,
  holder TEXT NOT NULL,
  expires_at_ms INTEGER NOT NULL
) STRICT;

-- What ties the sinks' checkpoints to this state (decision 15). The state's name: random, kept by export and import.
CREATE TABLE identity (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  state TEXT NOT NULL
) STRICT;

-- `origin`: where the epoch begins. `acknowledged_at`: when `acknowledged` was stored; what the source has forgotten was
-- committed before. `identity`: JSON. `number`: 1 for the database, 2 for the nest (decision 40). `makes`: the first start found no
-- log of its name at the source, and makes it: what is there by now is its own. `looked`: its tables were all registered once: what
-- comes from then on is new. `foreseen`: a start before it looks in the log up to there for what tables become.
CREATE TABLE source (
  number INTEGER PRIMARY KEY CHECK (number IN (1, 2)),
  epoch INTEGER NOT NULL,
  makes INTEGER NOT NULL DEFAULT 0 CHECK (makes IN (0, 1)),
  looked INTEGER NOT NULL DEFAULT 0 CHECK (looked IN (0, 1)),
  identity TEXT,
  origin TEXT,
  acknowledged TEXT,
  acknowledged_at TEXT,
  foreseen TEXT
) STRICT;

-- A copy of each sink's checkpoint; the sink's own counts. `written`: the last position that the sink has stored durably;
-- `covered`: up to here the log has nothing more for it; `tables`: which tables it holds completely, as JSON. `reset`: where
-- an operator has moved the sink, as JSON, until the sink itself has stored it. `lost`: what its readers, or its history, lack for
-- good, as JSON, until an operator has seen to it. `left_out`: tables that it had, and that the configuration leaves out, as JSON.
CREATE TABLE sink (
  name TEXT PRIMARY KEY,
  written TEXT,
  covered TEXT,
  tables TEXT NOT NULL DEFAULT '{}',
  paused INTEGER NOT NULL DEFAULT 0 CHECK (paused IN (0, 1)),
  error TEXT,
  reset TEXT,
  lost TEXT,
  left_out TEXT NOT NULL DEFAULT '[]'
) STRICT;

-- Each opening of a sink, in the order of `id`. `base`: the step of the checkpoint that it found; `obligation`: the number of
-- the last obligation that was stored for the sink, which goes on over sessions; `is_left`: it ended, and the sink held nothing
-- beyond its checkpoint.
CREATE TABLE sink_session (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  sink TEXT NOT NULL,
  session TEXT NOT NULL,
  base INTEGER NOT NULL,
  obligation INTEGER NOT NULL,
  is_left INTEGER NOT NULL DEFAULT 0,
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

-- Schema versions of each table, with the position from which they hold. `shape`: JSON.
CREATE TABLE table_version (
  table_id TEXT NOT NULL,
  version INTEGER NOT NULL,
  since TEXT NOT NULL,
  fingerprint TEXT NOT NULL,
  shape TEXT NOT NULL,
  PRIMARY KEY (table_id, version)
) STRICT;

-- Renames of tables that rules name, and of their columns, by their position in the log. `renames`: JSON.
CREATE TABLE table_rename (
  since TEXT PRIMARY KEY,
  renames TEXT NOT NULL
) STRICT;

-- Tables that a sink can't follow, or ('' in the place of its name) nothing can: it, or every sink, skips their changes until
-- they are reinstated. `shape`: the fingerprint of the shape that was refused; null: no other shape makes a difference.
-- `former`: the error that a paused table had before, as another table has its target.
CREATE TABLE suspended_table (
  sink TEXT NOT NULL,
  table_id TEXT NOT NULL,
  error TEXT NOT NULL,
  shape TEXT,
  former TEXT,
  PRIMARY KEY (sink, table_id)
) STRICT;

-- Incremental snapshots: of a whole table, of the rows for which `condition` holds, or (`differences`) a comparison of a table
-- of which the sink may hold anything, with repair. They continue after a restart. `needed`: without it the sink lacks rows.
-- `attempt` grows when the snapshot starts again from the first key. `completeness`: what the sink's copy is complete for
-- afterwards. `sweep_below`: rows of the sink with a lower version are removed at the end. `cursor`: the last key that is
-- durable in the sink; `held`: the step of the sink's checkpoint at that time.
CREATE TABLE snapshot (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  sink TEXT NOT NULL,
  table_id TEXT NOT NULL,
  scope TEXT NOT NULL CHECK (scope IN ('table', 'where', 'differences')),
  condition TEXT,
  reason TEXT NOT NULL,
  needed INTEGER NOT NULL DEFAULT 0 CHECK (needed IN (0, 1)),
  state TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'running', 'done', 'cancelled')),
  attempt INTEGER NOT NULL DEFAULT 0,
  completeness TEXT,
  sweep_below TEXT,
  cursor TEXT,
  held INTEGER,
  rows_done INTEGER NOT NULL DEFAULT 0,
  chunks_done INTEGER NOT NULL DEFAULT 0,
  resumed_count INTEGER NOT NULL DEFAULT 0,
  created_at TEXT NOT NULL,
  started_at TEXT,
  ended_at TEXT,
  CHECK ((scope = 'where') = (condition IS NOT NULL))
) STRICT;

-- Each table asks for its own unfinished snapshots: among those of thousands it has to be found.
CREATE INDEX snapshot_unfinished ON snapshot (table_id, sink) WHERE state IN ('waiting', 'running');
-- The oldest finished ones are removed, and comparisons are looked for again and again, while thousands wait.
CREATE INDEX snapshot_finished ON snapshot (id) WHERE state IN ('done', 'cancelled');
CREATE INDEX snapshot_differences ON snapshot (id) WHERE scope = 'differences';

-- Keys that a sink could not complete: a key lookup reads them. `shape`: what the key consisted of when it was listed; ''
-- where that is not known.
CREATE TABLE pending_key (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  sink TEXT NOT NULL,
  table_id TEXT NOT NULL,
  key TEXT NOT NULL,
  shape TEXT NOT NULL DEFAULT '',
  UNIQUE (sink, table_id, key)
) STRICT;

-- In each entry of it the id is last: the oldest keys of a sink's table are found among any number of others.
CREATE INDEX pending_key_oldest ON pending_key (sink, table_id);

-- Rows that a target refused. `attempts`: how often, replays included. `envelope`, the row, may be large: it is last, where what is
-- asked of all letters does not pass over it.
CREATE TABLE dead_letter (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  sink TEXT NOT NULL,
  table_id TEXT NOT NULL,
  key TEXT NOT NULL,
  op TEXT NOT NULL,
  position TEXT NOT NULL,
  code TEXT NOT NULL,
  reason TEXT NOT NULL,
  created_at TEXT NOT NULL,
  attempts INTEGER NOT NULL DEFAULT 1,
  state TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'superseded', 'replayed', 'discarded')),
  envelope TEXT NOT NULL
) STRICT;

CREATE UNIQUE INDEX dead_letter_waiting ON dead_letter (sink, table_id, key) WHERE state = 'waiting';

-- What comparisons of the sinks with the source have found, the newest of them. `summary`, `document`: JSON.
CREATE TABLE report (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE,
  summary TEXT NOT NULL,
  document TEXT NOT NULL
) STRICT;

-- The newest comparison, if it has not ended: what it has found so far, so that the next process continues it. One row.
CREATE TABLE comparison (
  id TEXT NOT NULL PRIMARY KEY,
  content TEXT NOT NULL
) STRICT;

-- Actions of operators, the newest of them. `subject`, `before`, `after`: JSON; null `ended_at`: the action has not ended.
CREATE TABLE audit (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  at TEXT NOT NULL,
  ended_at TEXT,
  who TEXT NOT NULL,
  via TEXT NOT NULL,
  action TEXT NOT NULL,
  subject TEXT NOT NULL,
  before TEXT,
  after TEXT,
  error TEXT
) STRICT;

-- What the receiver of `notify.webhook` was last told to be not well. `condition`: JSON.
CREATE TABLE notice (
  id TEXT PRIMARY KEY,
  condition TEXT NOT NULL
) STRICT;

-- The error with which the last daemon ended, until the next one starts. `error`: JSON.
CREATE TABLE ending (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  error TEXT NOT NULL
) STRICT;

-- The checkpoints of sinks that keep nothing themselves: what a program follows. `tables`, `bond`: as sinks store them.
CREATE TABLE checkpoint (
  sink TEXT PRIMARY KEY,
  position TEXT NOT NULL,
  tables TEXT NOT NULL,
  bond TEXT NOT NULL
) STRICT;

-- The numbers that a sink gave to readers, who keep them, are below: also when the sink and its checkpoint are gone.
CREATE TABLE reserved_number (
  sink TEXT PRIMARY KEY,
  below INTEGER NOT NULL
) STRICT;

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
