//! What moves from the embedded engine to PostgreSQL: tables, their columns, and the order in which rows are read.

/// How a column is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `bigint`, or a smaller number.
    Number(&'static str),
    Text,
    /// 0 or 1 at the source.
    Flag,
    Octets,
}

/// A column: its name at the target, what it is at the source, and its kind.
pub(crate) type Column = (&'static str, &'static str, Kind);

/// A table that moves.
pub(crate) struct Table {
    /// The same at both ends.
    pub(crate) name: &'static str,
    pub(crate) columns: &'static [Column],
    /// Columns, the same at both ends, by which rows are in order.
    pub(crate) key: &'static [&'static str],
    /// Rows of the source that move.
    pub(crate) wanted: &'static str,
    /// Rows of the target that have come.
    pub(crate) moved: &'static str,
    /// Rows of which there may be one of a kind only, in words of both ends: they go when nothing changes any more.
    pub(crate) alone: &'static str,
    /// Contents of messages go with the rows.
    pub(crate) has_contents: bool,
}

/// A value on its way. In order as both ends have it: texts by their octets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cell {
    Null,
    Number(i64),
    Text(String),
    Octets(Vec<u8>),
}

impl Cell {
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Null | Self::Number(_) => 8,
            Self::Text(text) => text.len(),
            Self::Octets(octets) => octets.len(),
        }
    }
}

/// The values of a row.
pub(crate) type Row = Vec<Cell>;

/// The values of a row's key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key(pub(crate) Vec<Cell>);

/// The octets of a message.
pub(crate) struct Content {
    pub(crate) message: i64,
    pub(crate) octets: Vec<u8>,
}

impl Table {
    /// The source's columns.
    pub(crate) fn sources(&self) -> String {
        self.columns.iter().map(|(_, source, _)| *source).collect::<Vec<_>>().join(", ")
    }

    /// The key of a row.
    pub(crate) fn key_of(&self, row: &[Cell]) -> Key {
        Key(self.key.iter().filter_map(|name| self.cell(row, name).cloned()).collect())
    }

    /// The value of a column.
    pub(crate) fn cell<'a>(&self, row: &'a [Cell], column: &str) -> Option<&'a Cell> {
        row.get(self.column(column)?)
    }

    /// The message whose content goes with a row, if it has one.
    pub(crate) fn content_of(&self, row: &[Cell]) -> Option<i64> {
        let stored = self.has_contents && self.cell(row, "stored") == Some(&Cell::Number(1));
        match row.first() {
            Some(Cell::Number(id)) if stored => Some(*id),
            _ => None,
        }
    }

    /// Columns of the key, with their kinds.
    pub(crate) fn keys(&self) -> impl Iterator<Item = (&'static str, Kind)> {
        let kind = |name: &&'static str| Some((*name, self.columns.iter().find(|(column, ..)| column == name)?.2));
        self.key.iter().filter_map(kind)
    }

    /// The place of a column.
    pub(crate) fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|(column, _, _)| *column == name)
    }
}

const BIG: Kind = Kind::Number("bigint");
const INT: Kind = Kind::Number("integer");
const SMALL: Kind = Kind::Number("smallint");
use Kind::{Flag, Octets, Text};

/// A table all of whose rows move.
const fn whole(name: &'static str, key: &'static [&'static str], columns: &'static [Column]) -> Table {
    Table { name, columns, key, wanted: "1 = 1", moved: "1 = 1", alone: "1 = 0", has_contents: false }
}

/// What is coming in was acknowledged to nobody; what is being removed need not move.
const BATCHES: &str = "state BETWEEN 1 AND 4";
const OF_BATCHES: &str = "batch IN (SELECT id FROM batch WHERE state BETWEEN 1 AND 4)";

/// All of them. Settings come first: what is wrong with them shows soon.
pub(crate) const TABLES: &[Table] = &[
    whole(
        "setting",
        &["kind", "name"],
        &[
            ("kind", "kind", Text),
            ("name", "name", Text),
            ("body", "body", Text),
            ("secret", "secret", Octets),
            ("version", "version", BIG),
            ("updated", "updated", BIG),
        ],
    ),
    Table {
        wanted: "name = 'settings' OR substr(name, 1, 7) = 'cursor.'",
        moved: "name = 'settings' OR substr(name, 1, 7) = 'cursor.'",
        ..whole("meta", &["name"], &[("name", "name", Text), ("value", "value", BIG)])
    },
    whole(
        "lane",
        &["id"],
        &[
            ("id", "id", BIG),
            ("route", "route", Text),
            ("domain", "domain", Text),
            ("sender", "sender", Text),
            ("stream", "stream", Text),
            ("priority", "priority", SMALL),
            ("waiting", "waiting", BIG),
            ("held", "held", BIG),
            ("next_due", "next_due", BIG),
            ("used", "used", BIG),
        ],
    ),
    Table {
        has_contents: true,
        ..whole(
            "message",
            &["id"],
            &[
                ("id", "id", BIG),
                ("pending", "pending", INT),
                ("final_at", "final_at", BIG),
                ("parked", "parked", BIG),
                ("captured", "captured", Flag),
                ("stored", "segment IS NOT NULL", Flag),
                ("size", "size", BIG),
                ("hash", "hash", Octets),
                ("accepted", "accepted", BIG),
                ("not_before", "not_before", BIG),
                ("expires", "expires", BIG),
                ("deadline", "coalesce(details ->> '$.deadline', 0)", Flag),
                ("priority", "priority", SMALL),
                ("eight_bit", "eight_bit", Flag),
                ("sender", "sender", Text),
                ("stream", "stream", Text),
                ("reverse_path", "reverse_path", Text),
                ("parameters", "parameters", Text),
                ("details", "details", Text),
                ("batch", "batch", BIG),
            ],
        )
    },
    whole(
        "recipient",
        &["message", "n"],
        &[
            ("message", "message", BIG),
            ("n", "n", INT),
            ("state", "state", SMALL),
            ("lease", "0", BIG),
            ("ticket", "0", BIG),
            ("lane", "lane", BIG),
            ("due", "due", BIG),
            ("attempts", "attempts", INT),
            ("wish", "wish", Text),
            ("why", "why", Text),
            ("cause", "cause", Text),
            ("rule", "rule", Text),
            ("parameters", "parameters", Text),
            ("address", "address", Text),
        ],
    ),
    whole(
        "event",
        &["seq"],
        &[
            ("seq", "seq", BIG),
            ("at", "at", BIG),
            ("message", "message", BIG),
            ("n", "n", INT),
            ("upto", "upto", INT),
            ("kind", "kind", SMALL),
            ("attempt", "CASE typeof(attempt) WHEN 'text' THEN attempt END", Text),
            ("attempt_at", "CASE typeof(attempt) WHEN 'integer' THEN attempt END", BIG),
            ("detail", "detail", Text),
        ],
    ),
    whole(
        "idempotency",
        &["sender", "key"],
        &[
            ("sender", "sender", Text),
            ("key", "key", Text),
            ("fingerprint", "fingerprint", Octets),
            ("answer", "answer", Text),
            ("at", "at", BIG),
        ],
    ),
    whole("usage", &["account"], &[("account", "account", Text), ("body", "body", Text)]),
    whole("tls_report", &["day", "domain"], &[("day", "day", BIG), ("domain", "domain", Text), ("body", "body", Text)]),
    Table {
        alone: "sent IS NULL",
        ..whole(
            "digest",
            &["id"],
            &[
                ("id", "id", BIG),
                ("key", "key", Octets),
                ("until", "until", BIG),
                ("folded", "folded", BIG),
                ("sent", "sent", BIG),
            ],
        )
    },
    whole(
        "digest_item",
        &["digest", "message", "n"],
        &[("digest", "digest", BIG), ("message", "message", BIG), ("n", "n", INT)],
    ),
    whole(
        "suppression",
        &["key", "scope"],
        &[
            ("key", "key", Text),
            ("scope", "scope", Text),
            ("address", "address", Text),
            ("reason", "reason", Text),
            ("evidence", "evidence", Text),
            ("who", "who", Text),
            ("added", "added", BIG),
            ("expires", "expires", BIG),
        ],
    ),
    whole(
        "suppression_change",
        &["seq"],
        &[
            ("seq", "seq", BIG),
            ("at", "at", BIG),
            ("change", "change", SMALL),
            ("key", "key", Text),
            ("scope", "scope", Text),
            ("address", "address", Text),
            ("reason", "reason", Text),
            ("expires", "expires", BIG),
            ("who", "who", Text),
            ("why", "why", Text),
        ],
    ),
    whole(
        "strike",
        &["key", "reason", "scope", "day"],
        &[("key", "key", Text), ("reason", "reason", Text), ("scope", "scope", Text), ("day", "day", BIG)],
    ),
    whole("reported", &["key"], &[("key", "key", Text), ("at", "at", BIG)]),
    Table {
        wanted: BATCHES,
        ..whole(
            "batch",
            &["id"],
            &[
                ("id", "id", BIG),
                ("state", "state", SMALL),
                ("by", "0", BIG),
                ("sender", "sender", Text),
                ("stream", "stream", Text),
                ("label", "label", Text),
                ("why", "why", Text),
                ("created", "created", BIG),
                ("start", "start", BIG),
                ("spread", "spread", BIG),
                ("paused", "paused", BIG),
                ("paused_at", "paused_at", BIG),
                ("finished", "finished", BIG),
                ("test", "test", Flag),
                ("total", "total", BIG),
                ("fed", "fed", BIG),
                ("refused", "refused", BIG),
            ],
        )
    },
    Table { wanted: OF_BATCHES, ..whole("batch_body", &["batch"], &[("batch", "batch", BIG), ("body", "body", Text)]) },
    Table {
        wanted: OF_BATCHES,
        ..whole(
            "batch_row",
            &["batch", "n"],
            &[
                ("batch", "batch", BIG),
                ("n", "n", INT),
                ("state", "state", SMALL),
                ("message", "message", BIG),
                ("address", "address", Text),
                ("data", "data", Text),
                ("why", "why", Text),
            ],
        )
    },
    whole(
        "hook",
        &["name"],
        &[
            ("name", "name", Text),
            ("event", "event", BIG),
            ("part", "part", BIG),
            ("suppression", "suppression", BIG),
            ("state", "state", Text),
        ],
    ),
    whole(
        "hook_waiting",
        &["name", "source", "seq", "n"],
        &[
            ("name", "name", Text),
            ("source", "source", SMALL),
            ("seq", "seq", BIG),
            ("n", "n", BIG),
            ("key", "key", BIG),
            ("attempts", "attempts", BIG),
            ("first", "first", BIG),
            ("due", "due", BIG),
        ],
    ),
    whole(
        "hook_delivery",
        &["id"],
        &[
            ("id", "id", BIG),
            ("name", "name", Text),
            ("at", "at", BIG),
            ("taken", "taken", Flag),
            ("body", "body", Text),
        ],
    ),
    whole(
        "returned",
        &["id"],
        &[
            ("id", "id", BIG),
            ("at", "at", BIG),
            ("source", "source", Text),
            ("recipient", "recipient", Text),
            ("list", "list", SMALL),
            ("due", "due", BIG),
            ("size", "size", BIG),
            ("note", "note", Text),
            ("content", "content", Octets),
        ],
    ),
    whole("mailbox", &["name"], &[("name", "name", Text), ("validity", "validity", BIG), ("uid", "uid", BIG)]),
    Table {
        alone: "open",
        ..whole(
            "record",
            &["id"],
            &[
                ("id", "id", BIG),
                ("kind", "kind", Text),
                ("name", "name", Text),
                ("open", "open", Flag),
                ("at", "at", BIG),
                ("version", "version", BIG),
                ("body", "body", Text),
            ],
        )
    },
];
