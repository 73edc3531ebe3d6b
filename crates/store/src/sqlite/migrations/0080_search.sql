-- What searches look into: by the key of each recipient's address, by `@` and its domain, and by `<` and a hash of the
-- Message-ID header. Filled behind the mail, in sorted steps, not in the transaction that accepts; meta.sought is the number
-- of the event up to which it is filled.
CREATE TABLE sought(
    key     TEXT NOT NULL,
    message INTEGER NOT NULL,
    PRIMARY KEY (key, message)
) WITHOUT ROWID;
