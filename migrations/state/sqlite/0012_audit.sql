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
