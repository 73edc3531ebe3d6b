-- The last number of what is followed behind a cursor. Whoever takes numbers holds the row until the commit: a reader never
-- sees a number before a smaller one.
CREATE TABLE counter(
    name  TEXT COLLATE "C" PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO counter(name, value) VALUES ('suppression', 0), ('suppression.forgotten', 0);

-- Addresses that get no mail. An address is compared by its key: lower case.
CREATE TABLE suppression(
    key      TEXT COLLATE "C" NOT NULL,
    scope    TEXT COLLATE "C" NOT NULL,  -- '*' or a stream
    address  TEXT NOT NULL,              -- as it was given
    reason   TEXT COLLATE "C" NOT NULL,
    evidence TEXT NOT NULL,              -- JSON; not JSONB, which refuses what a peer may have said
    who      TEXT NOT NULL,
    added    BIGINT NOT NULL,
    expires  BIGINT,                     -- NULL: never
    PRIMARY KEY (key, scope)
);
CREATE INDEX suppression_expires ON suppression(expires) WHERE expires IS NOT NULL;

-- Every change, removals too: what applications follow to keep their own lists clean.
CREATE TABLE suppression_change(
    seq     BIGINT PRIMARY KEY,
    at      BIGINT NOT NULL,
    change  SMALLINT NOT NULL,       -- number of `ChangeKind`
    key     TEXT COLLATE "C" NOT NULL,
    scope   TEXT COLLATE "C" NOT NULL,
    address TEXT NOT NULL,
    reason  TEXT COLLATE "C" NOT NULL,
    expires BIGINT,
    who     TEXT NOT NULL,
    why     TEXT
);
CREATE INDEX suppression_change_key ON suppression_change(key, scope, seq);

-- Days (since 1970, UTC) on which mail to an address failed for a reason that is the recipient's own.
CREATE TABLE strike(
    key    TEXT COLLATE "C" NOT NULL,
    reason TEXT COLLATE "C" NOT NULL,
    scope  TEXT COLLATE "C" NOT NULL,
    day    BIGINT NOT NULL,
    PRIMARY KEY (key, reason, scope, day)
);
CREATE INDEX strike_day ON strike(day);

-- Reports that were recorded, so that one told twice counts once.
CREATE TABLE reported(
    key TEXT COLLATE "C" PRIMARY KEY,
    at  BIGINT NOT NULL
);
CREATE INDEX reported_at ON reported(at);
