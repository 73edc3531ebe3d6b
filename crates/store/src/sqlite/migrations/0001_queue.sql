-- The queue. Times are Unix milliseconds. State numbers are those of `State`.

CREATE TABLE meta(
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;

-- One row per run of a node; numbers are never used again.
CREATE TABLE node(
    incarnation INTEGER PRIMARY KEY AUTOINCREMENT,
    name        TEXT NOT NULL,
    started     INTEGER NOT NULL
);

-- What waits together. Leased recipients are counted in memory: the commonest message, accepted leased and delivered at
-- once, touches no lane row.
CREATE TABLE lane(
    id       INTEGER PRIMARY KEY,
    route    TEXT NOT NULL,
    domain   TEXT NOT NULL,
    sender   TEXT NOT NULL,
    stream   TEXT NOT NULL,
    priority INTEGER NOT NULL,
    waiting  INTEGER NOT NULL DEFAULT 0,
    held     INTEGER NOT NULL DEFAULT 0,
    next_due INTEGER,
    used     INTEGER NOT NULL
);
CREATE INDEX lane_due ON lane(priority, next_due) WHERE next_due IS NOT NULL;
CREATE INDEX lane_domain ON lane(domain);
CREATE INDEX lane_held ON lane(id) WHERE held > 0;

CREATE TABLE message(
    id           INTEGER PRIMARY KEY,
    pending      INTEGER NOT NULL,   -- recipients that are not final
    leased       INTEGER NOT NULL,   -- recipients that are leased
    final_at     INTEGER,            -- when the last recipient became final
    last_event   INTEGER NOT NULL,   -- head of the chain event.prev
    parked       INTEGER,            -- when to look whether it expired; only while recipients wait
    captured     INTEGER NOT NULL,
    segment      INTEGER,            -- NULL: the content is gone
    place        INTEGER NOT NULL,   -- offset in the segment
    size         INTEGER NOT NULL,
    hash         BLOB NOT NULL,      -- BLAKE3 of the content
    accepted     INTEGER NOT NULL,
    not_before   INTEGER,
    expires      INTEGER NOT NULL,
    priority     INTEGER NOT NULL,
    eight_bit    INTEGER NOT NULL,
    sender       TEXT NOT NULL,
    stream       TEXT NOT NULL,
    reverse_path TEXT NOT NULL,      -- '' is the null reverse-path
    parameters   TEXT,
    details      TEXT
);
-- The one index the commonest message pays for: leases when a run starts, and what is open in order of age.
CREATE INDEX message_open ON message(leased > 0) WHERE pending > 0;
CREATE INDEX message_parked ON message(parked) WHERE parked IS NOT NULL;
CREATE INDEX message_final ON message(final_at) WHERE final_at IS NOT NULL;
CREATE INDEX message_content ON message(final_at) WHERE final_at IS NOT NULL AND segment IS NOT NULL;
CREATE INDEX message_captured ON message(id) WHERE captured = 1;

-- No foreign key: it would cost a look-up for each recipient; verify() finds those without a message.
CREATE TABLE recipient(
    message    INTEGER NOT NULL,
    n          INTEGER NOT NULL,
    state      INTEGER NOT NULL,
    lease      INTEGER NOT NULL,     -- incarnation that holds it, 0: none
    lane       INTEGER NOT NULL,
    due        INTEGER,
    attempts   INTEGER NOT NULL,
    wish       TEXT,                 -- operator's wish, applied when the lease ends
    why        TEXT,
    cause      TEXT,                 -- JSON of the last failure
    rule       TEXT GENERATED ALWAYS AS (cause ->> '$.r') VIRTUAL,
    parameters TEXT,
    address    TEXT NOT NULL,
    PRIMARY KEY (message, n)
) WITHOUT ROWID;
CREATE INDEX recipient_due ON recipient(lane, due, message, n) WHERE state = 0;
CREATE INDEX recipient_rest ON recipient(lane, state, message, n) WHERE state = 0 OR state = 2;
CREATE INDEX recipient_cause ON recipient(rule, message, n, state, due)
    WHERE (state = 0 OR state = 2) AND cause IS NOT NULL;
CREATE INDEX recipient_address ON recipient(address, message, n) WHERE state = 0 OR state = 2;

-- Events of one message are chained from message.last_event through prev: cheaper than an index. A row stands for the
-- equal events of recipients n to upto; their numbers are seq, seq + 1 and so on.
CREATE TABLE event(
    seq     INTEGER PRIMARY KEY,
    at      INTEGER NOT NULL,
    message INTEGER NOT NULL,
    n       INTEGER,
    upto    INTEGER,                 -- NULL: n alone
    kind    INTEGER NOT NULL,
    prev    INTEGER,
    attempt,                         -- JSON, or the seq of the event that holds it
    detail  TEXT
);

CREATE TABLE segment(
    id         INTEGER PRIMARY KEY,
    live       INTEGER NOT NULL,     -- contents in use
    live_bytes INTEGER NOT NULL,
    bytes      INTEGER NOT NULL      -- octets written, used or not
);

CREATE TABLE idempotency(
    sender      TEXT NOT NULL,
    key         TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    answer      TEXT NOT NULL,
    at          INTEGER NOT NULL,
    PRIMARY KEY (sender, key)
) WITHOUT ROWID;
CREATE INDEX idempotency_at ON idempotency(at);

CREATE TABLE setting(
    kind    TEXT NOT NULL,
    name    TEXT NOT NULL,
    body    TEXT NOT NULL,
    secret  BLOB,
    version INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    PRIMARY KEY (kind, name)
) WITHOUT ROWID;
