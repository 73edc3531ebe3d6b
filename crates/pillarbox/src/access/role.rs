//! Roles and scopes: what a person or a key may do at most.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// What somebody may do; each role may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Look at everything but users, keys and the audit log.
    Viewer,
    /// Work on queue, streams, suppressions, incidents; run checks; submit for a sender.
    Operator,
    /// Change settings, users and keys.
    Administrator,
}

impl Role {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Administrator => "administrator",
        }
    }
}

/// Submitting mail: the one scope that is neither read nor write.
pub const SEND: &str = "messages:send";

/// The scope that a request needs: `queue:read`, `queue:write`, `messages:send`.
pub fn scope_of(method: &str, pattern: &str) -> String {
    let resource = pattern.trim_start_matches('/').split('/').next().unwrap_or_default();
    match (method, pattern) {
        ("POST", "/messages" | "/batches") => SEND.to_owned(),
        ("GET" | "HEAD", _) => format!("{resource}:read"),
        _ => format!("{resource}:write"),
    }
}

/// Whether scopes allow it; none at all allow everything, and who may write may read.
pub fn allows(scopes: &[String], needed: &str) -> bool {
    let writes = |scope: &String| {
        needed.strip_suffix(":read").is_some_and(|resource| scope.strip_suffix(":write") == Some(resource))
    };
    scopes.is_empty() || scopes.iter().any(|scope| scope == needed || writes(scope))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_allows_its_own_and_writing_allows_reading() {
        let scopes = |list: &[&str]| list.iter().map(|scope| (*scope).to_owned()).collect::<Vec<_>>();
        assert_eq!(scope_of("POST", "/messages"), "messages:send");
        assert_eq!(scope_of("GET", "/messages/{id}"), "messages:read");
        assert_eq!(scope_of("POST", "/queue/{operation}"), "queue:write");
        assert!(allows(&[], "queue:write"));
        assert!(allows(&scopes(&["queue:write"]), "queue:read"));
        for (have, need) in
            [("queue:read", "queue:write"), ("queue:write", "routes:read"), ("messages:read", "messages:send")]
        {
            assert!(!allows(&scopes(&[have]), need), "{have} {need}");
        }
    }

    #[test]
    fn roles_are_ordered() {
        assert!(Role::Viewer < Role::Operator && Role::Operator < Role::Administrator);
    }
}
