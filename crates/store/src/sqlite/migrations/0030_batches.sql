-- Batches. Times are Unix milliseconds.

CREATE TABLE batch(
    id        INTEGER PRIMARY KEY,
    state     INTEGER NOT NULL,      -- 0: coming in, 1 to 4: `BatchState`, 5: to be removed
    by        INTEGER NOT NULL,      -- incarnation that takes it in
    sender    TEXT NOT NULL,
    stream    TEXT NOT NULL,
    label     TEXT NOT NULL,
    why       TEXT,
    created   INTEGER NOT NULL,
    start     INTEGER NOT NULL,
    spread    INTEGER,
    paused    INTEGER NOT NULL DEFAULT 0,
    paused_at INTEGER,
    finished  INTEGER,
    test      INTEGER NOT NULL,
    total     INTEGER NOT NULL DEFAULT 0,
    fed       INTEGER NOT NULL DEFAULT 0,
    refused   INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX batch_state ON batch(state, id);

-- Template and options, apart: they may be large, and go when the last row is done with.
CREATE TABLE batch_body(
    batch INTEGER PRIMARY KEY,
    body  TEXT NOT NULL
);

CREATE TABLE batch_row(
    batch   INTEGER NOT NULL,
    n       INTEGER NOT NULL,
    state   INTEGER NOT NULL,        -- 0: queued, 1: became a message, 2: refused
    message INTEGER,
    address TEXT NOT NULL,
    data    TEXT,                    -- until it has become a message
    why     TEXT,
    PRIMARY KEY (batch, n)
) WITHOUT ROWID;

-- Open messages of batches alone: others pay nothing for it.
ALTER TABLE message ADD COLUMN batch INTEGER;
CREATE INDEX message_batch ON message(batch) WHERE batch IS NOT NULL AND pending > 0;
