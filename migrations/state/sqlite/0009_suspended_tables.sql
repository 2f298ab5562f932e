-- Tables that one sink can't follow: their changes pass over it until an operator acts. `error`: JSON.
CREATE TABLE suspended_table (
  sink TEXT NOT NULL,
  table_id TEXT NOT NULL,
  error TEXT NOT NULL,
  PRIMARY KEY (sink, table_id)
) STRICT;
