-- `shape`: what the key consisted of when it was listed; '' where that was not noted.
ALTER TABLE pending_key ADD COLUMN shape TEXT NOT NULL DEFAULT '';
