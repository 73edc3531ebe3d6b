-- What is remembered as one JSON body each: incidents, their history, results of checks, snapshots, alerts, audit, sessions.
CREATE TABLE record(
    id      BIGINT PRIMARY KEY,
    kind    TEXT COLLATE "C" NOT NULL,
    name    TEXT COLLATE "C" NOT NULL,
    open    BOOLEAN NOT NULL,
    at      BIGINT NOT NULL,         -- Unix milliseconds
    version BIGINT NOT NULL,
    body    TEXT NOT NULL            -- JSON, the shape is its owner's affair
);
CREATE INDEX record_kind ON record(kind, id);
CREATE INDEX record_name ON record(kind, name, id);
CREATE INDEX record_at ON record(kind, at);
CREATE UNIQUE INDEX record_open ON record(kind, name) WHERE open;
INSERT INTO counter(name, value) VALUES ('record', 0);
