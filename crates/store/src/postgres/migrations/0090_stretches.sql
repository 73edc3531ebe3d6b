-- What occurs in each stretch of messages: ids from `first` on, up to the next stretch. `marks` are bits, set for what messages and
-- recipients there are or have been compared by; a search passes over stretches that lack what it needs. Filled with the keys of
-- `sought`, up to the same event. Those that are filled already are gone through once more, for their marks.
CREATE TABLE stretch(
    first    BIGINT PRIMARY KEY,
    last     BIGINT NOT NULL,                      -- highest id that has its marks here
    messages BIGINT NOT NULL,                      -- so many had when they were accepted
    marks    BYTEA NOT NULL
);
-- A search reads single octets of it.
ALTER TABLE stretch ALTER COLUMN marks SET STORAGE EXTERNAL;
UPDATE meta SET value = 0 WHERE name = 'sought';
