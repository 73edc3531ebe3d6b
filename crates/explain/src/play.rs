//! The samples of all rules, in a form a scripted server can play: reply and stage, and the rule that must be found.

use proto::smtp::reply::Reply;
use proto::transcript::Stage;

use crate::base::RuleBase;
use crate::model::Rule;
use crate::sample::{Sample, SampleWhat};

/// A reply that a server gives at a stage, and the rule it belongs to.
#[derive(Debug, Clone, Copy)]
pub struct Played<'a> {
    /// The rule that must be found.
    pub rule: &'a Rule,
    /// Where the server says it. A rule for no certain stage is played at the end of the message.
    pub stage: Stage,
    /// Provider or program to be told or shown by the server's name; `None`: the words alone must do.
    pub provider: Option<&'a str>,
    /// What the server says.
    pub reply: &'a Reply,
}

impl RuleBase {
    /// Every sample with its rule, in the order of the files.
    pub fn samples(&self) -> impl Iterator<Item = (&Rule, &Sample)> {
        self.rules().flat_map(|rule| rule.samples().iter().map(move |sample| (rule, sample)))
    }

    /// The samples that are replies, as a scripted server plays them. Where a rule says that its words mean this only
    /// at its provider, or rests on no words, the provider has to be known; elsewhere it may be.
    pub fn playable(&self) -> impl Iterator<Item = Played<'_>> {
        self.samples().filter_map(|(rule, sample)| match &sample.what {
            // Codes alone, at no certain stage: a rule of the standards for a stage may be closer.
            SampleWhat::Reply(_) if rule.texts.is_empty() && sample.stage.is_none() => None,
            SampleWhat::Reply(reply) => {
                let stage = sample.stage.unwrap_or(Stage::Message);
                let needed = rule.provider_only || rule.texts.is_empty();
                Some(Played { rule, stage, provider: rule.provider.as_deref().filter(|_| needed), reply })
            }
            SampleWhat::Failure(_) | SampleWhat::Text(_) | SampleWhat::Sign(..) => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::judge::Query;

    use super::*;

    #[test]
    fn every_played_reply_finds_its_rule() {
        let base = RuleBase::builtin();
        let mut count = 0;
        for played in base.playable() {
            let query = Query::reply(played.stage, played.reply).at(played.provider);
            let found = base.judge(&query).map(|finding| finding.rule);
            assert_eq!(found.as_deref(), Some(played.rule.id.as_str()), "{:?}", played.reply);
            count += 1;
        }
        assert!(count > 1_000, "{count}");
        assert!(base.samples().count() > count);
    }
}
