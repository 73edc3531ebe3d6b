//! What judging costs: loading the rules, one reply that is known, one that is not.

#![expect(clippy::unwrap_used, reason = "bench")]

use divan::{Bencher, black_box};
use explain::{Query, RuleBase};
use proto::smtp::reply::Reply;
use proto::transcript::Stage;

fn main() {
    RuleBase::builtin();
    divan::main();
}

#[divan::bench]
fn load() -> RuleBase {
    RuleBase::with_user_rules(&[]).unwrap()
}

#[divan::bench(args = [
    "5.1.1 <a@example.net>: Recipient address rejected: User unknown in local recipient table",
    "5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org; https://www.spamhaus.org/q/192.0.2.1",
    "xyzzy plugh",
])]
fn judge(bencher: Bencher<'_, '_>, text: &str) {
    let base = RuleBase::builtin();
    let reply = Reply::new(550, text);
    bencher.bench(|| base.judge(black_box(&Query::reply(Stage::Recipient, &reply))));
}
