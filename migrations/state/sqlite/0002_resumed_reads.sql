-- Reads beside the stream go on where they were. `rules`: what the copy is complete for; `held`: the position that the sink
-- itself held when the cursor was true; `attempt` grows when it begins again from the first key; `needed`: the sink is short
-- of rows without it.
ALTER TABLE refill ADD COLUMN rules TEXT;
ALTER TABLE refill ADD COLUMN held TEXT;
ALTER TABLE refill ADD COLUMN attempt INTEGER NOT NULL DEFAULT 0;
ALTER TABLE refill ADD COLUMN needed INTEGER NOT NULL DEFAULT 0 CHECK (needed IN (0, 1));
ALTER TABLE refill ADD COLUMN chunks_done INTEGER NOT NULL DEFAULT 0;
ALTER TABLE refill ADD COLUMN resumed_count INTEGER NOT NULL DEFAULT 0;
ALTER TABLE refill ADD COLUMN started_at TEXT;
ALTER TABLE refill ADD COLUMN ended_at TEXT;

-- Of these nobody knows under which rules they began. Without knowing why they were asked for, none can be given up.
UPDATE refill SET state = 'waiting', sweep_below = NULL, cursor = NULL, rows_done = 0, needed = scope = 'table'
WHERE state IN ('waiting', 'running');
