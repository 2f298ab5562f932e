-- Renames of tables that stood under rules, and of their columns, by their position in the log. `renames`: JSON.
CREATE TABLE table_rename (
  since TEXT PRIMARY KEY,
  renames TEXT NOT NULL
) STRICT;
