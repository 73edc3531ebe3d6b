//! Just enough of MIME (RFC 2045) to walk the parts of a message: content type, boundary, transfer encoding.
