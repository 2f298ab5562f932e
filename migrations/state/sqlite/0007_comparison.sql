-- The comparison that was begun last and has not ended: what it has found until then, for it to be gone on with. One row.
CREATE TABLE comparison (
  id TEXT NOT NULL PRIMARY KEY,
  content TEXT NOT NULL
) STRICT;
