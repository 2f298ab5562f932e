ALTER TABLE notice RENAME COLUMN concern TO condition;
