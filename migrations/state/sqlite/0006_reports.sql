-- What comparisons of the sinks with the source have found, the newest of them. `summary`, `document`: JSON.
CREATE TABLE report (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE,
  summary TEXT NOT NULL,
  document TEXT NOT NULL
) STRICT;
