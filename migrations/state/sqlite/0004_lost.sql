-- JSON: what the sink's readers, or its history, lack for good, until an operator has seen to it.
ALTER TABLE sink ADD COLUMN lost TEXT;
