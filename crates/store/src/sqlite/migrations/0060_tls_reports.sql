-- What was seen of the TLS of each domain on each day, until it was reported and for a while after that.
CREATE TABLE tls_report(
    day     INTEGER NOT NULL,        -- since 1970-01-01, UTC
    domain  TEXT NOT NULL,
    body    TEXT NOT NULL,           -- JSON, the shape is the relay's affair
    PRIMARY KEY (day, domain)
) WITHOUT ROWID;
