//! What was seen of the TLS of a domain on one day; its shape is the relay's affair.

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsDay {
    /// Days since 1970-01-01, UTC.
    pub day: i64,
    /// The recipients' domain.
    pub domain: String,
    /// JSON; `None` forgets the row.
    pub body: Option<String>,
}

/// Which rows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsDays {
    /// From this day on.
    pub from_day: i64,
    /// Of this domain only.
    pub domain: Option<String>,
    /// After this row, in the order of the list.
    pub after: Option<(i64, String)>,
    /// At most so many.
    pub limit: u32,
}
