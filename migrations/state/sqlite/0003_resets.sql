-- `reset`: where an operator has put the sink, as JSON; its own progress is set to that once, before it goes on.
ALTER TABLE sink ADD COLUMN reset TEXT;
-- When `acknowledged` was stored: what the source has forgotten was committed before.
ALTER TABLE source ADD COLUMN acknowledged_at TEXT;
