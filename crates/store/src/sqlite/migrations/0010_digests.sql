-- Equal mails to one recipient that are told of by one message. A window without mail is only the memory that the first
-- one went.
CREATE TABLE digest(
    id     INTEGER PRIMARY KEY AUTOINCREMENT,
    key    BLOB NOT NULL,
    until  INTEGER NOT NULL,         -- end of the window
    folded INTEGER NOT NULL,         -- mails collected
    sent   INTEGER                   -- message that tells of them
);
CREATE UNIQUE INDEX digest_open ON digest(key) WHERE sent IS NULL;
CREATE INDEX digest_due ON digest(until) WHERE folded > 0;
CREATE INDEX digest_empty ON digest(until) WHERE folded = 0;

CREATE TABLE digest_item(
    digest  INTEGER NOT NULL,
    message INTEGER NOT NULL,
    n       INTEGER NOT NULL,
    PRIMARY KEY (digest, message, n)
) WITHOUT ROWID;
