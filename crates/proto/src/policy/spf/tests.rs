//! SPF from the outside: records, clients, results.
