//! The audit of signed domains.
