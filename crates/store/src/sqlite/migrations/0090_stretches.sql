-- What occurs in each stretch of messages: ids from `first` on, up to the next stretch. `marks` are bits, set for what messages and
-- recipients there are or have been compared by; a search passes over stretches that lack what it needs. Filled with the keys of
-- `sought`, up to the same event. Those that are filled already are gone through once more, for their marks.
CREATE TABLE stretch(
    first    INTEGER PRIMARY KEY,
    last     INTEGER NOT NULL,       -- highest id that has its marks here
    messages INTEGER NOT NULL,       -- so many had when they were accepted
    marks    BLOB NOT NULL
);
DELETE FROM meta WHERE name = 'sought';
