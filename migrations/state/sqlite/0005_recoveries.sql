-- A third scope: 'differences', a table of which a sink may hold anything, that is compared and mended.
ALTER TABLE refill RENAME TO refill_before;
CREATE TABLE refill (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  sink TEXT NOT NULL,
  table_id TEXT NOT NULL,
  scope TEXT NOT NULL CHECK (scope IN ('table', 'where', 'differences')),
  condition TEXT,
  reason TEXT NOT NULL,
  state TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'running', 'done', 'cancelled')),
  sweep_below TEXT,
  cursor TEXT,
  rows_done INTEGER NOT NULL DEFAULT 0,
  created_at TEXT NOT NULL,
  rules TEXT,
  held TEXT,
  attempt INTEGER NOT NULL DEFAULT 0,
  needed INTEGER NOT NULL DEFAULT 0 CHECK (needed IN (0, 1)),
  chunks_done INTEGER NOT NULL DEFAULT 0,
  resumed_count INTEGER NOT NULL DEFAULT 0,
  started_at TEXT,
  ended_at TEXT,
  CHECK ((scope = 'where') = (condition IS NOT NULL))
) STRICT;
INSERT INTO refill (id, sink, table_id, scope, condition, reason, state, sweep_below, cursor, rows_done, created_at, rules, held,
  attempt, needed, chunks_done, resumed_count, started_at, ended_at)
SELECT id, sink, table_id, scope, condition, reason, state, sweep_below, cursor, rows_done, created_at, rules, held,
  attempt, needed, chunks_done, resumed_count, started_at, ended_at FROM refill_before;
DROP TABLE refill_before;
