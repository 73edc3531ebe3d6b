//! The audit of a domain: its records for receiving and sending, and what is wrong with them.
