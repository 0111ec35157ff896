//! Whether the router's figures reach the bar. Ratios within one run come first; an absolute figure says as
//! much about the machine as about the router.

use super::Peer;
use super::account::Done;
use super::programme::Measure;
use crate::bench::figures::{Figures, median};
use crate::bench::report::ratio;

/// What may be asked of a figure of the router.
#[derive(Debug, Clone, Copy)]
pub enum Condition {
    /// The peer's is so many times as high, or more.
    Times(Peer, f64),
    /// It is so many times the peer's, or less.
    Within(Peer, f64),
    /// It is so many times the peer's, or more.
    Ahead(Peer, f64),
    AtMost(f64),
    AtLeast(f64),
}

/// What came of a measure's conditions.
#[derive(Debug, PartialEq)]
pub struct Verdict {
    /// Unknown if no condition can be judged.
    pub met: Option<bool>,
    /// Every condition, and how it stands.
    pub why: String,
}

/// What a value is held against.
enum Met {
    From(f64),
    UpTo(f64),
}

impl Verdict {
    pub fn of(measure: &Measure, done: &Done) -> Self {
        let judged: Vec<_> =
            measure.bar.iter().map(|condition| condition.judge(measure, done)).collect();
        let known = judged.iter().filter_map(|(met, _)| *met);
        let met = known.reduce(|one, other| one || other);
        // Where one of several is missing, the others failing does not settle it.
        let open = judged.iter().any(|(met, _)| met.is_none());
        let met = met.filter(|met| *met || !open);
        let why: Vec<String> = judged.into_iter().map(|(_, why)| why).collect();
        Self { met, why: why.join("; or ") }
    }

    /// In one word or two.
    pub fn word(&self) -> &'static str {
        match self.met {
            Some(true) => "met",
            Some(false) => "not met",
            None => "open",
        }
    }
}

impl Condition {
    fn judge(self, measure: &Measure, done: &Done) -> (Option<bool>, String) {
        let show = |value| measure.figure.unit.show(value);
        let own = || {
            let rounds = done.rounds_of(None)?;
            Some(median(rounds.iter().filter_map(|round| round.value(measure.figure)).collect()))
        };
        let (value, met, said) = match self {
            Self::Times(peer, least) => {
                let said = format!("times as much at {} ({least} or more)", peer.name());
                (done.ratio(measure, Some(peer), None), Met::From(least), said)
            }
            Self::Within(peer, most) => {
                let said = format!("times that of {} ({most} or less)", peer.name());
                (done.ratio(measure, None, Some(peer)), Met::UpTo(most), said)
            }
            Self::Ahead(peer, least) => {
                let said = format!("times that of {} ({least} or more)", peer.name());
                (done.ratio(measure, None, Some(peer)), Met::From(least), said)
            }
            Self::AtMost(most) => (own(), Met::UpTo(most), format!("({} or less)", show(most))),
            Self::AtLeast(least) => (own(), Met::From(least), format!("({} or more)", show(least))),
        };
        let absolute = matches!(self, Self::AtMost(_) | Self::AtLeast(_));
        let shown = match value {
            None => "?".to_owned(),
            Some(value) if absolute => show(value),
            Some(value) => format!("{value:.2}"),
        };
        let met = value.map(|value| match met {
            Met::From(least) => value >= least,
            Met::UpTo(most) => value <= most,
        });
        (met, format!("{shown} {said}"))
    }
}

impl Done {
    /// The median of the rounds' ratios of one's figure to that of another, the router being nobody.
    pub fn ratio(&self, measure: &Measure, one: Option<Peer>, other: Option<Peer>) -> Option<f64> {
        ratio(measure.figure, self.rounds_of(one)?, self.rounds_of(other)?)
    }

    /// What somebody came to, if all went well.
    pub fn rounds_of(&self, who: Option<Peer>) -> Option<&[Figures]> {
        let name = who.map_or(super::roster::ROUTER, Peer::name);
        let found = self.servers.iter().find(|(known, _)| known == name);
        found.map(|(_, rounds)| &rounds[..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::figures::CPU;
    use crate::bench::peers::programme::PROGRAMME;

    /// W1, with these CPU times in each round.
    fn done(servers: &[(&str, &[f64])]) -> Done {
        let rounds = |values: &[f64]| {
            let figures = |value: &f64| {
                let mut figures = Figures::default();
                figures.add(CPU, *value);
                figures
            };
            values.iter().map(figures).collect::<Vec<_>>()
        };
        let servers = servers.iter().map(|(name, values)| ((*name).to_owned(), rounds(values)));
        let command = String::new();
        Done { piece: &PROGRAMME[0], command, servers: servers.collect(), failed: Vec::new() }
    }

    #[track_caller]
    fn assert_verdict(
        bar: &'static [Condition],
        servers: &[(&str, &[f64])],
        word: &str,
        why: &str,
    ) {
        let measure = Measure { title: "", title_zh: "", figure: CPU, bar };
        let verdict = Verdict::of(&measure, &done(servers));
        assert_eq!((verdict.word(), &*verdict.why), (word, why));
    }

    const EIGHT_OR_THIRTY: &[Condition] =
        &[Condition::Times(Peer::NatsServer, 8.0), Condition::AtMost(30.0)];

    #[test]
    fn the_median_of_the_rounds_ratios_is_judged() {
        // 10, 5 and 8 times as much, of medians that are 20 and 160.
        let servers: [(&str, &[f64]); 2] =
            [("switchboard", &[16.0, 40.0, 20.0]), ("nats-server", &[160.0, 200.0, 160.0])];
        let bar = &[Condition::Times(Peer::NatsServer, 8.0)];
        assert_verdict(bar, &servers, "met", "8.00 times as much at nats-server (8 or more)");
    }

    #[test]
    fn one_of_several_conditions_is_enough() {
        for (own, nats, word, why) in [
            (
                31.0,
                310.0,
                "met",
                "10.00 times as much at nats-server (8 or more); or 31.0 (30.0 or less)",
            ),
            (
                29.0,
                58.0,
                "met",
                "2.00 times as much at nats-server (8 or more); or 29.0 (30.0 or less)",
            ),
            (
                31.0,
                62.0,
                "not met",
                "2.00 times as much at nats-server (8 or more); or 31.0 (30.0 or less)",
            ),
        ] {
            let servers: [(&str, &[f64]); 2] = [("switchboard", &[own]), ("nats-server", &[nats])];
            assert_verdict(EIGHT_OR_THIRTY, &servers, word, why);
        }
    }

    #[test]
    fn a_peer_that_is_missing_leaves_open_what_nothing_else_settles() {
        let why = "? times as much at nats-server (8 or more); or 31.0 (30.0 or less)";
        assert_verdict(EIGHT_OR_THIRTY, &[("switchboard", &[31.0])], "open", why);
        let why = "? times as much at nats-server (8 or more); or 30.0 (30.0 or less)";
        assert_verdict(EIGHT_OR_THIRTY, &[("switchboard", &[30.0])], "met", why);
    }

    #[test]
    fn within_and_ahead_divide_the_routers_figure_by_the_peers() {
        let servers: [(&str, &[f64]); 2] = [("switchboard", &[110.0]), ("relay", &[100.0])];
        let within = "1.10 times that of relay (1.1 or less)";
        assert_verdict(&[Condition::Within(Peer::Relay, 1.1)], &servers, "met", within);
        let ahead = "1.10 times that of relay (1.2 or more)";
        assert_verdict(&[Condition::Ahead(Peer::Relay, 1.2)], &servers, "not met", ahead);
    }
}
