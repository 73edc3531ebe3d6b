-- What all nodes together used of a limit, and what each may use: one row a limit, held while shares of it are taken.
CREATE TABLE share(
    name TEXT COLLATE "C" PRIMARY KEY,
    body TEXT NOT NULL            -- JSON
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 200);
