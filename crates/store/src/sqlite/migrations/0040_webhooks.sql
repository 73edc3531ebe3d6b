-- Webhooks: how far each has come, what waits to be told again, and what was answered. Names are those of documents of
-- the kind "webhook".

CREATE TABLE hook(
    name         TEXT PRIMARY KEY,
    event        INTEGER NOT NULL,   -- all events up to here are told, left out, or waiting
    part         INTEGER NOT NULL,   -- and so many recipients of the next one
    suppression  INTEGER NOT NULL,   -- the same of changes of suppressions
    state        TEXT NOT NULL       -- JSON, the shape is its reader's affair
) WITHOUT ROWID;

-- Only what failed, and what came behind it: the queue of a webhook is the events themselves.
CREATE TABLE hook_waiting(
    name     TEXT NOT NULL,
    source   INTEGER NOT NULL,       -- 0 event, 1 change of suppressions
    seq      INTEGER NOT NULL,
    n        INTEGER NOT NULL,       -- the recipient, of an event
    key      INTEGER NOT NULL,       -- of those with one key only the oldest may be told
    attempts INTEGER NOT NULL,
    first    INTEGER NOT NULL,
    due      INTEGER NOT NULL,
    PRIMARY KEY (name, source, seq, n)
) WITHOUT ROWID;
CREATE INDEX hook_waiting_key ON hook_waiting(name, key, source, seq);
CREATE INDEX hook_waiting_due ON hook_waiting(name, due);

CREATE TABLE hook_delivery(
    id    INTEGER PRIMARY KEY AUTOINCREMENT,
    name  TEXT NOT NULL,
    at    INTEGER NOT NULL,
    taken INTEGER NOT NULL,
    body  TEXT NOT NULL
);
CREATE INDEX hook_delivery_name ON hook_delivery(name, id);
CREATE INDEX hook_delivery_refused ON hook_delivery(name, id) WHERE taken = 0;
