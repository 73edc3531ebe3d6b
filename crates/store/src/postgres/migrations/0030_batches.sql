-- Batches. Times are Unix milliseconds.

CREATE TABLE batch(
    id        BIGINT PRIMARY KEY,
    state     SMALLINT NOT NULL,     -- 0: coming in, 1 to 4: `BatchState`, 5: to be removed
    by        BIGINT NOT NULL,       -- incarnation that takes it in
    sender    TEXT NOT NULL,
    stream    TEXT NOT NULL,
    label     TEXT NOT NULL,
    why       TEXT,
    created   BIGINT NOT NULL,
    start     BIGINT NOT NULL,
    spread    BIGINT,
    paused    BIGINT NOT NULL DEFAULT 0,
    paused_at BIGINT,
    finished  BIGINT,
    test      BOOLEAN NOT NULL,
    total     BIGINT NOT NULL DEFAULT 0,
    fed       BIGINT NOT NULL DEFAULT 0,
    refused   BIGINT NOT NULL DEFAULT 0
) WITH (fillfactor = 70);
CREATE INDEX batch_state ON batch(state, id);

-- Template and options, apart: they may be large, and go when the last row is done with.
CREATE TABLE batch_body(
    batch BIGINT PRIMARY KEY,
    body  TEXT NOT NULL
);

CREATE TABLE batch_row(
    batch   BIGINT NOT NULL,
    n       INTEGER NOT NULL,
    state   SMALLINT NOT NULL,       -- 0: queued, 1: became a message, 2: refused
    message BIGINT,
    address TEXT NOT NULL,
    data    TEXT,                    -- until it has become a message
    why     TEXT,
    PRIMARY KEY (batch, n)
);
-- What is left to be done of a large batch is found without walking through what is done.
CREATE INDEX batch_row_queued ON batch_row(batch, n) WHERE state = 0;
