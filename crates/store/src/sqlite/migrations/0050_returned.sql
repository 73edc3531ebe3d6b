-- Mail that came back. `list` is NULL while it waits to be read, then the number of the list it is kept in.
CREATE TABLE returned(
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    at        INTEGER NOT NULL,
    source    TEXT NOT NULL,
    recipient TEXT,
    list      INTEGER,
    due       INTEGER,               -- while it waits
    size      INTEGER NOT NULL,
    note      TEXT,                  -- JSON, the shape is the reader's affair
    content   BLOB NOT NULL
);
CREATE INDEX returned_due ON returned(due, id, size) WHERE list IS NULL;
CREATE INDEX returned_list ON returned(list, id, size) WHERE list IS NOT NULL;

-- How far polled mailboxes were read.
CREATE TABLE mailbox(
    name     TEXT NOT NULL PRIMARY KEY,
    validity INTEGER NOT NULL,
    uid      INTEGER NOT NULL
) WITHOUT ROWID;
