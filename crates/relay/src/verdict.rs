//! What a failure means for a recipient: tried again, or never. The only place that decides permanence.
//!
//! RFC 5321 §4.2.1: 4yz may be retried, 5yz should not be. Around that class stand two guards: a failure that is the
//! route's, the network's or our own is never held against the recipient, and nothing but a clear 5yz to MAIL, RCPT, DATA
//! or the message ends a recipient for ever. A missing rule falls back to the class.

use proto::smtp::reply::{EnhancedCode, Reply};
use proto::transcript::{Failure, Stage};

use crate::route::RouteKind;

/// What a failure means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Tried again with backoff until the message expires.
    Transient,
    /// Never again.
    Permanent,
}

/// Judges one failure for one recipient.
pub fn judge(kind: RouteKind, stage: Stage, failure: &Failure) -> Verdict {
    match failure {
        Failure::Refused(reply) => judge_reply(stage, reply),
        // The recipient's domain for an MX route; the operator's own setting for a smart host.
        Failure::NameNotFound { .. } | Failure::NoAddress { .. } | Failure::NullMx { .. } | Failure::MxLoop { .. }
            if kind == RouteKind::Mx =>
        {
            Verdict::Permanent
        }
        Failure::MissingExtension { .. } | Failure::TooLarge { .. } => Verdict::Permanent,
        _ => Verdict::Transient,
    }
}

fn judge_reply(stage: Stage, reply: &Reply) -> Verdict {
    let about_the_message = matches!(stage, Stage::Sender | Stage::Recipient | Stage::Message);
    if reply.class() == 5 && about_the_message && !is_about_our_credential(reply) {
        Verdict::Permanent
    } else {
        Verdict::Transient
    }
}

/// 530, 534, 535, 538 and their enhanced forms (RFC 4954 §6) are about how we signed in, not about the recipient.
fn is_about_our_credential(reply: &Reply) -> bool {
    matches!(reply.code, 530 | 534 | 535 | 538) || matches!(reply.enhanced(), Some(EnhancedCode(5, 7, 8 | 9 | 11 | 12)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: u16, text: &str) -> Failure {
        Failure::Refused(Reply::new(code, text))
    }

    #[test]
    fn the_class_of_the_reply_decides_at_the_stages_that_are_about_the_message() {
        for stage in [Stage::Sender, Stage::Recipient, Stage::Message] {
            assert_eq!(judge(RouteKind::Mx, stage, &refused(550, "5.1.1 no such user")), Verdict::Permanent);
            assert_eq!(judge(RouteKind::Mx, stage, &refused(599, "")), Verdict::Permanent);
            assert_eq!(judge(RouteKind::Mx, stage, &refused(450, "4.2.1 busy")), Verdict::Transient);
            assert_eq!(judge(RouteKind::Mx, stage, &refused(421, "4.3.2 going down")), Verdict::Transient);
            assert_eq!(judge(RouteKind::Mx, stage, &refused(250, "unexpected")), Verdict::Transient);
        }
    }

    #[test]
    fn a_refusal_of_the_connection_is_never_held_against_the_recipient() {
        for stage in [Stage::Banner, Stage::Ehlo, Stage::Tls, Stage::Auth, Stage::Quit] {
            assert_eq!(judge(RouteKind::Smarthost, stage, &refused(554, "5.7.1 go away")), Verdict::Transient);
        }
    }

    #[test]
    fn a_rejected_credential_is_never_held_against_the_recipient() {
        for (code, text) in
            [(530, "5.7.0 authentication required"), (535, "5.7.8 bad"), (550, "5.7.8 bad"), (534, "5.7.9 weak")]
        {
            assert_eq!(judge(RouteKind::Smarthost, Stage::Sender, &refused(code, text)), Verdict::Transient, "{text}");
        }
    }

    #[test]
    fn a_name_that_does_not_exist_is_final_for_mx_and_an_operators_slip_for_a_smart_host() {
        for failure in [
            Failure::NameNotFound { name: "gone.example".into() },
            Failure::NoAddress { name: "gone.example".into() },
            Failure::NullMx { domain: "gone.example".into() },
        ] {
            assert_eq!(judge(RouteKind::Mx, Stage::Dns, &failure), Verdict::Permanent);
            assert_eq!(judge(RouteKind::Smarthost, Stage::Dns, &failure), Verdict::Transient);
        }
    }

    #[test]
    fn what_is_not_known_is_transient() {
        for failure in [
            Failure::DnsUnavailable { name: "a.example".into(), reason: "SERVFAIL".into() },
            Failure::Disconnected,
            Failure::Timeout { seconds: 600 },
            Failure::BadReply { text: "hello".into() },
            Failure::TlsHandshake { reason: "alert".into() },
            Failure::StartTlsMissing,
            Failure::AuthNeedsTls,
            Failure::Local { reason: "shutting down".into() },
        ] {
            assert_eq!(judge(RouteKind::Mx, Stage::Message, &failure), Verdict::Transient, "{failure:?}");
        }
    }

    #[test]
    fn what_the_next_hop_can_never_take_is_final() {
        assert_eq!(
            judge(RouteKind::Mx, Stage::Sender, &Failure::MissingExtension { extension: "SMTPUTF8".into() }),
            Verdict::Permanent
        );
        assert_eq!(judge(RouteKind::Mx, Stage::Sender, &Failure::TooLarge { size: 2, limit: 1 }), Verdict::Permanent);
    }
}
