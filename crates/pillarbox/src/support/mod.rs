//! The support bundle: what somebody who helps has to know of this server, without what is nobody's business.
//!
//! What is in it is what the API gives, through [`scrub`]: no secrets, no content of messages, no names of people. A domain,
//! a host, a reply and a time stay: without them nobody can help.

pub mod bundle;
pub mod scrub;
