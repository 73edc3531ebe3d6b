//! Whatever a peer or a paste holds, judging it ends, in bounded time and space, with a finding for every reply.

use explain::{Normal, Query, RuleBase};
use proptest::prelude::*;
use proto::smtp::reply::Reply;
use proto::transcript::Stage;

fn noise() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        "\\PC{0,12}",
        Just("550 ".to_owned()),
        Just(" said: 550 5.1.1 ".to_owned()),
        Just(" -> 421 ".to_owned()),
        Just("blocked using ".to_owned()),
        Just("user unknown".to_owned()),
        Just("[192.0.2.1]".to_owned()),
        Just("(#5.7.1)".to_owned()),
        Just("é\u{202e}\u{0}".to_owned()),
    ];
    proptest::collection::vec(word, 0..40).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_paste_can_be_judged(text in noise()) {
        let base = RuleBase::builtin();
        if let Some(finding) = base.judge(&Query::text(&text)) {
            prop_assert!(base.explain(&finding).is_some());
            let tame = finding.values.values().all(|value| value.len() <= 200 && !value.contains(char::is_control));
            prop_assert!(tame, "a value is long or has control characters");
        }
        prop_assert!(Normal::of_text(&text).fingerprint().len() <= 200);
    }

    #[test]
    fn any_reply_has_a_finding(code in 200_u16..600, lines in proptest::collection::vec(noise(), 1..4)) {
        let reply = Reply::lines(code, lines);
        let finding = RuleBase::builtin().judge(&Query::reply(Stage::Message, &reply));
        prop_assert!(finding.is_some(), "{reply}");
    }
}

#[test]
fn a_text_made_to_be_slow_is_not() {
    let base = RuleBase::builtin();
    for piece in ["too many sessions from this ", "rejected because ", "conversation with ", "<", "550 5.1.1 said: "] {
        let text = piece.repeat(100_000 / piece.len());
        base.judge(&Query::text(&text));
    }
}
