-- What the receiver of `notify.webhook` was last told to be not well. `concern`: JSON.
CREATE TABLE notice (
  id TEXT PRIMARY KEY,
  concern TEXT NOT NULL
) STRICT;
