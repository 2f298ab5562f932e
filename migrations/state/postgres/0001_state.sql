-- One row per daemon name: who works on it, and of which form its rows are (the number of migrations/state/sqlite).
-- `expires_at` null: released. `revision` grows with every change of its rows.
CREATE TABLE millrace.state (
  name text PRIMARY KEY,
  form integer NOT NULL,
  revision bigint NOT NULL DEFAULT 0,
  lease_number bigint NOT NULL DEFAULT 0,
  holder text NOT NULL DEFAULT '',
  expires_at timestamptz
);

-- What is remembered, a row each: `content` is the row of that relation as JSON.
CREATE TABLE millrace.state_row (
  name text NOT NULL REFERENCES millrace.state ON DELETE CASCADE,
  relation text NOT NULL,
  number bigint NOT NULL,
  content text NOT NULL,
  PRIMARY KEY (name, relation, number)
);
