-- Addresses that get no mail. An address is compared by its key: lower case.
CREATE TABLE suppression(
    id       INTEGER PRIMARY KEY,
    key      TEXT NOT NULL,
    scope    TEXT NOT NULL,          -- '*' or a stream
    address  TEXT NOT NULL,          -- as it was given
    reason   TEXT NOT NULL,
    evidence TEXT NOT NULL,          -- JSON
    who      TEXT NOT NULL,
    added    INTEGER NOT NULL,
    expires  INTEGER                 -- NULL: never
);
CREATE UNIQUE INDEX suppression_key ON suppression(key, scope);
CREATE INDEX suppression_expires ON suppression(expires) WHERE expires IS NOT NULL;

-- Every change, removals too: what applications follow to keep their own lists clean.
CREATE TABLE suppression_change(
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    at      INTEGER NOT NULL,
    change  INTEGER NOT NULL,        -- number of `ChangeKind`
    key     TEXT NOT NULL,
    scope   TEXT NOT NULL,
    address TEXT NOT NULL,
    reason  TEXT NOT NULL,
    expires INTEGER,
    who     TEXT NOT NULL,
    why     TEXT
);
CREATE INDEX suppression_change_key ON suppression_change(key, scope, seq);

-- Days (since 1970, UTC) on which mail to an address failed for a reason that is the recipient's own.
CREATE TABLE strike(
    key    TEXT NOT NULL,
    reason TEXT NOT NULL,
    scope  TEXT NOT NULL,
    day    INTEGER NOT NULL,
    PRIMARY KEY (key, reason, scope, day)
) WITHOUT ROWID;
CREATE INDEX strike_day ON strike(day);

-- Reports that were recorded, so that one told twice counts once.
CREATE TABLE reported(
    key TEXT NOT NULL PRIMARY KEY,
    at  INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX reported_at ON reported(at);
