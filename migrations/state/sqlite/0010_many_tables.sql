-- Each table asks for its own unfinished reads: among those of thousands it has to be found.
CREATE INDEX refill_open ON refill (table_id, sink) WHERE state IN ('waiting', 'running');
