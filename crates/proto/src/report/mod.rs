//! Mail that comes back (RFC 3464, RFC 5965, and the many forms older than both): who was not reached, and what the
//! last server said.
//!
//! Pure and bounded: any octets give a report, none panics. What the words mean is not decided here.
