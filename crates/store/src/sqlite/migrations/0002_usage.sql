-- What accounts have used of their limits: rolling windows survive a restart.
CREATE TABLE usage(
    account TEXT NOT NULL PRIMARY KEY,
    body    TEXT NOT NULL            -- JSON, the shape is the relay's affair
) WITHOUT ROWID;
