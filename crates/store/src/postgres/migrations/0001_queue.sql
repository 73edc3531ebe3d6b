-- The queue. Times are Unix milliseconds. State numbers are those of `State`. Texts with JSON in them are as in the
-- embedded engine. Node leases alone are told by the server's clock: nodes need not agree on the time.

CREATE TABLE meta(
    name  text PRIMARY KEY,
    value bigint NOT NULL
);

-- The number of the newest event. Whoever writes events takes numbers here last, and holds the row until the commit: so
-- numbers become visible in their order, and a reader's cursor never passes one that is still to come.
CREATE TABLE event_number(
    one   integer PRIMARY KEY,
    value bigint NOT NULL
) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);
INSERT INTO event_number VALUES (1, 0);

-- One row per run of a node; numbers are never used again. A run whose time is over is dead: others take its leases.
CREATE TABLE node(
    incarnation bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name        text COLLATE "C" NOT NULL,
    started     bigint NOT NULL,
    version     text NOT NULL,
    alive_until timestamptz NOT NULL
) WITH (fillfactor = 50);

-- Ends of message ids: each open store has one for itself.
CREATE TABLE id_slot(
    slot   integer PRIMARY KEY,
    holder bigint NOT NULL,
    until  timestamptz NOT NULL
) WITH (fillfactor = 50);
INSERT INTO id_slot SELECT n, 0, TIMESTAMPTZ '2000-01-01 00:00:00+00' + n * INTERVAL '1 second' FROM generate_series(0, 1023) AS n;

-- What waits together. Counts and the next due time are exact: whoever changes them holds the row.
CREATE TABLE lane(
    id       bigint PRIMARY KEY,
    route    text COLLATE "C" NOT NULL,
    domain   text COLLATE "C" NOT NULL,
    sender   text COLLATE "C" NOT NULL,
    stream   text COLLATE "C" NOT NULL,
    priority smallint NOT NULL,
    waiting  bigint NOT NULL DEFAULT 0,
    held     bigint NOT NULL DEFAULT 0,
    next_due bigint,
    used     bigint NOT NULL
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
CREATE INDEX lane_due ON lane(priority, next_due, id) WHERE next_due IS NOT NULL;
CREATE INDEX lane_domain ON lane(domain);
CREATE INDEX lane_held ON lane(id) WHERE held > 0;

CREATE TABLE message(
    id           bigint PRIMARY KEY,
    pending      integer NOT NULL,   -- recipients that are not final
    final_at     bigint,             -- when the last recipient became final
    parked       bigint,             -- when to look whether it expired; only while recipients wait or are held
    captured     boolean NOT NULL DEFAULT false,
    stored       boolean NOT NULL,   -- the content is there
    size         bigint NOT NULL,
    hash         bytea NOT NULL,     -- BLAKE3 of the content
    accepted     bigint NOT NULL,
    not_before   bigint,
    expires      bigint NOT NULL,
    deadline     boolean NOT NULL,   -- its end was asked for
    priority     smallint NOT NULL,
    eight_bit    boolean NOT NULL,
    sender       text COLLATE "C" NOT NULL,
    stream       text COLLATE "C" NOT NULL,
    reverse_path text NOT NULL,      -- '' is the null reverse-path
    parameters   text,
    details      text,
    batch        bigint
) WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);
CREATE INDEX message_open ON message(id) WHERE pending > 0;
CREATE INDEX message_parked ON message(parked) WHERE parked IS NOT NULL;
CREATE INDEX message_final ON message(final_at) WHERE final_at IS NOT NULL;
CREATE INDEX message_content ON message(final_at) WHERE final_at IS NOT NULL AND stored;
CREATE INDEX message_captured ON message(id) WHERE captured;
CREATE INDEX message_batch ON message(batch) WHERE batch IS NOT NULL AND pending > 0;

-- Octets, in parts of at most 4 MiB. They do not compress, and are not to be tried.
CREATE TABLE content(
    message bigint NOT NULL,
    part    integer NOT NULL,
    data    bytea NOT NULL,
    PRIMARY KEY (message, part)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000,
        toast.autovacuum_vacuum_scale_factor = 0.02, toast.autovacuum_vacuum_threshold = 2000);
ALTER TABLE content ALTER COLUMN data SET STORAGE EXTERNAL;

CREATE TABLE recipient(
    message    bigint NOT NULL,
    n          integer NOT NULL,
    state      smallint NOT NULL,
    lease      bigint NOT NULL,      -- incarnation that holds it, 0: none
    ticket     bigint NOT NULL,      -- number of the transaction that leased it, so that one whose outcome nobody knows can be undone
    lane       bigint NOT NULL,
    due        bigint,
    attempts   integer NOT NULL,
    wish       text,                 -- operator's wish, applied when the lease ends
    why        text,
    cause      text,                 -- JSON of the last failure
    rule       text COLLATE "C",                 -- of the cause
    parameters text,
    address    text COLLATE "C" NOT NULL,
    PRIMARY KEY (message, n)
) WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000,
        autovacuum_analyze_scale_factor = 0.05);
CREATE INDEX recipient_due ON recipient(lane, due, message, n) WHERE state = 0;
CREATE INDEX recipient_held ON recipient(lane, message, n) WHERE state = 2;
CREATE INDEX recipient_leased ON recipient(lease, lane) WHERE state = 1;
CREATE INDEX recipient_cause ON recipient(rule, message, n, state, due) WHERE state IN (0, 2) AND cause IS NOT NULL;
CREATE INDEX recipient_address ON recipient(address, message, n) WHERE state IN (0, 2);

-- A row stands for the equal events of recipients n to upto; their numbers are seq, seq + 1 and so on. Parts of a week
-- each are made when they are needed and dropped when all in them is past its time.
CREATE TABLE event(
    seq        bigint NOT NULL,
    at         bigint NOT NULL,
    message    bigint NOT NULL,
    n          integer,
    upto       integer,              -- NULL: n alone
    kind       smallint NOT NULL,
    attempt    text,                 -- JSON
    attempt_at bigint,               -- or the seq of the event that holds it
    detail     text
) PARTITION BY RANGE (at);
CREATE INDEX event_seq ON event(seq);
CREATE INDEX event_message ON event(message, seq);

CREATE TABLE idempotency(
    sender      text COLLATE "C" NOT NULL,
    key         text COLLATE "C" NOT NULL,
    fingerprint bytea NOT NULL,
    answer      text NOT NULL,
    at          bigint NOT NULL,
    PRIMARY KEY (sender, key)
);
CREATE INDEX idempotency_at ON idempotency(at);

CREATE TABLE setting(
    kind    text COLLATE "C" NOT NULL,
    name    text COLLATE "C" NOT NULL,
    body    text NOT NULL,
    secret  bytea,
    version bigint NOT NULL,
    updated bigint NOT NULL,
    PRIMARY KEY (kind, name)
);

CREATE TABLE usage(
    account text COLLATE "C" PRIMARY KEY,
    body    text NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE tls_report(
    day    bigint NOT NULL,
    domain text COLLATE "C" NOT NULL,
    body   text NOT NULL,
    PRIMARY KEY (day, domain)
);
