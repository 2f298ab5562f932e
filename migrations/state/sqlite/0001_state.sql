-- What Millrace remembers of one source. Positions are text, `epoch/commit/index` in decimal; keys are JSON arrays of
-- text; times are RFC 3339 in UTC, or milliseconds since 1970 where the name ends in `_ms`.

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

CREATE TABLE source (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  epoch INTEGER NOT NULL,
  identity TEXT,
  origin TEXT,
  acknowledged TEXT
) STRICT;

CREATE TABLE sink (
  name TEXT PRIMARY KEY,
  written TEXT,
  covered TEXT,
  tables TEXT NOT NULL DEFAULT '{}',
  paused INTEGER NOT NULL DEFAULT 0 CHECK (paused IN (0, 1)),
  error TEXT
) STRICT;

CREATE TABLE table_version (
  table_id TEXT NOT NULL,
  version INTEGER NOT NULL,
  since TEXT NOT NULL,
  fingerprint TEXT NOT NULL,
  shape TEXT NOT NULL,
  PRIMARY KEY (table_id, version)
) STRICT;

CREATE TABLE table_aside (
  table_id TEXT PRIMARY KEY,
  error TEXT NOT NULL
) STRICT;

CREATE TABLE refill (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  sink TEXT NOT NULL,
  table_id TEXT NOT NULL,
  scope TEXT NOT NULL CHECK (scope IN ('table', 'where')),
  condition TEXT,
  reason TEXT NOT NULL,
  state TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'running', 'done', 'cancelled')),
  sweep_below TEXT,
  cursor TEXT,
  rows_done INTEGER NOT NULL DEFAULT 0,
  created_at TEXT NOT NULL,
  CHECK ((scope = 'where') = (condition IS NOT NULL))
) STRICT;

CREATE TABLE pending_key (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  sink TEXT NOT NULL,
  table_id TEXT NOT NULL,
  key TEXT NOT NULL,
  UNIQUE (sink, table_id, key)
) STRICT;

CREATE TABLE dead_letter (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  sink TEXT NOT NULL,
  table_id TEXT NOT NULL,
  key TEXT NOT NULL,
  op TEXT NOT NULL,
  position TEXT NOT NULL,
  code TEXT NOT NULL,
  reason TEXT NOT NULL,
  envelope TEXT NOT NULL,
  created_at TEXT NOT NULL,
  state TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'superseded', 'replayed', 'discarded'))
) STRICT;

CREATE UNIQUE INDEX dead_letter_waiting ON dead_letter (sink, table_id, key) WHERE state = 'waiting';
