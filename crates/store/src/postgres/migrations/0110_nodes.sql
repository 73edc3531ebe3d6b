-- Nodes as they say they are, one row for each name, and what only one of them does at a time. Times are the server's: nodes
-- need not agree on theirs.
CREATE TABLE member(
    name    text COLLATE "C" PRIMARY KEY,
    run     bigint NOT NULL,
    version text NOT NULL,
    address text NOT NULL,
    started bigint NOT NULL,         -- Unix milliseconds
    seen    timestamptz NOT NULL,
    load    text NOT NULL,           -- JSON, the shape is its owner's affair
    willing boolean NOT NULL         -- it would lead
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);

CREATE TABLE duty(
    name  text COLLATE "C" PRIMARY KEY,
    run   bigint NOT NULL,           -- who has it, 0: nobody
    until timestamptz NOT NULL,
    term  bigint NOT NULL            -- grows with each change of hands
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);
