//! Records and walks from the outside.
