//! `/api/v1/sessions`: who is connected, and what each of them takes and gives.
//!
//! The list is read off the mailboxes, of which any thread may look at a few numbers. Only the rows of the
//! page that was asked for are told in full.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::Admin;
use super::answer::{Answered, json};
use super::problem::Problem;
use super::query::Query;
use crate::mailbox::Mailbox;

/// What one session is told as.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub session: u64,
    pub name: String,
    pub peer: String,
    pub ids: Vec<String>,
    pub queue_bytes: usize,
    pub paused: bool,
    pub frames_in: u64,
    pub bytes_in: u64,
    pub frames_out: u64,
    pub bytes_out: u64,
    /// Absent until it has been measured.
    pub frames_per_second: Option<f64>,
    pub age_ms: u64,
    /// Absent before its Hello.
    pub heartbeat_ms: Option<u32>,
    pub silent_ms: u64,
}

#[derive(Debug, Serialize)]
struct List {
    /// How many there are, whatever the page shows.
    total: usize,
    sessions: Vec<Row>,
    /// Where the next page begins.
    next: Option<String>,
}

/// What comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    /// The longest connected.
    Age,
    /// The fullest mailbox.
    Queue,
    /// The most frames a second, in and out.
    Rate,
}

/// A session by what it is sorted by; the greatest comes first, and of equals the oldest.
type Place = (u64, std::cmp::Reverse<u64>);

/// A page of all sessions.
pub(super) async fn list(query: &str, admin: &Admin) -> Answered {
    let query = Query::read(query, &["sort", "limit", "cursor"])?;
    let sort = query.value("sort")?.unwrap_or(Sort::Age);
    let limit = query.limit(USUAL_PAGE, LONGEST_PAGE)?;
    let behind = query.value::<Cursor>("cursor")?.map(|cursor| cursor.0);
    if sort == Sort::Rate {
        admin.rates.wait(admin).await;
    }
    let rates = admin.rates.look(admin);
    let now = admin.shared.clock.now_ms();
    let mut all: Vec<(Place, Arc<Mailbox>)> = Vec::new();
    let mut total = 0;
    admin.shared.sessions.each(|mailbox| {
        total += 1;
        let key = match sort {
            Sort::Age => now.saturating_sub(mailbox.badge().since()),
            Sort::Queue => mailbox.pending() as u64,
            Sort::Rate => rates.milli(&mailbox).unwrap_or(0),
        };
        // The age grows from page to page; the order is that of the sessions' numbers anyway.
        let key = if sort == Sort::Age { 0 } else { key };
        let place = (key, std::cmp::Reverse(mailbox.session()));
        if behind.is_none_or(|behind| place < behind) {
            all.push((place, mailbox));
        }
    });
    let more = all.len() > limit;
    if more {
        all.select_nth_unstable_by(limit, |one, other| other.0.cmp(&one.0));
        all.truncate(limit);
    }
    all.sort_unstable_by_key(|(place, _)| std::cmp::Reverse(*place));
    let next = all.last().filter(|_| more).map(|(place, _)| Cursor(*place).to_string());
    let page: Vec<Arc<Mailbox>> = all.into_iter().map(|(_, mailbox)| mailbox).collect();
    Ok(json(&List { total, sessions: rows(&page, &rates, admin), next }))
}

/// One session, by its number.
pub(super) fn one(number: &str, query: &str, admin: &Admin) -> Answered {
    Query::read(query, &[])?;
    let mailbox = find(number, admin)?;
    let rates = admin.rates.look(admin);
    let row = rows(&[mailbox], &rates, admin).pop();
    row.map(|row| json(&row)).ok_or_else(|| unknown(number))
}

/// The session of this number.
pub(super) fn find(number: &str, admin: &Admin) -> Result<Arc<Mailbox>, Problem> {
    let session: u64 = number.parse().map_err(|_| {
        Problem::bad_request(format!(
            "`{number}` is not a session: it is a number, as the log has it"
        ))
    })?;
    admin.shared.sessions.find(session).ok_or_else(|| unknown(number))
}

fn unknown(number: &str) -> Problem {
    Problem::not_found(format!("there is no session {number}"))
}

/// These sessions in full. Their ids stand in the table.
pub(super) fn rows(page: &[Arc<Mailbox>], rates: &Look, admin: &Admin) -> Vec<Row> {
    let policies = admin.shared.settings.load().policies.clone();
    let mut ids: HashMap<u64, Vec<String>> =
        page.iter().map(|mailbox| (mailbox.session(), Vec::new())).collect();
    let table = admin.shared.published.load_full();
    for class in table.classes() {
        for member in class.everyone() {
            if let Some(ids) = ids.get_mut(&member.handle.session()) {
                ids.push(format!("{}.{}", policies.name(class.class()), member.instance));
            }
        }
    }
    let now = admin.shared.clock.now_ms();
    let row = |mailbox: &Arc<Mailbox>| {
        let badge = mailbox.badge();
        let ((frames_in, bytes_in), (frames_out, bytes_out)) = (badge.taken(), badge.given());
        Row {
            session: mailbox.session(),
            name: badge.name().to_owned(),
            peer: badge.peer().to_string(),
            ids: ids.remove(&mailbox.session()).unwrap_or_default(),
            queue_bytes: mailbox.pending(),
            paused: mailbox.is_paused(),
            frames_in,
            bytes_in,
            frames_out,
            bytes_out,
            frames_per_second: rates.milli(mailbox).map(|milli| milli as f64 / 1_000.0),
            age_ms: now.saturating_sub(badge.since()),
            heartbeat_ms: Some(badge.heartbeat_ms()).filter(|ms| *ms > 0),
            silent_ms: now.saturating_sub(mailbox.last_heard()),
        }
    };
    page.iter().map(row).collect()
}

// ---- rates ---------------------------------------------------------------------------------------

/// How many frames each session had taken and given some seconds ago. Nobody counts while nobody asks.
#[derive(Debug, Default)]
pub(super) struct Rates(Mutex<Samples>);

#[derive(Debug, Default)]
struct Samples {
    latest: Option<Arc<Sample>>,
    before: Option<Arc<Sample>>,
}

#[derive(Debug)]
struct Sample {
    at: Instant,
    frames: HashMap<u64, u64, ahash::RandomState>,
}

/// The rates as one answer tells them.
#[derive(Debug)]
pub(super) struct Look(Option<(Arc<Sample>, f64)>);

impl Rates {
    /// The rates since the last sample, if there is one that is neither too young nor too old.
    pub(super) fn look(&self, admin: &Admin) -> Look {
        let now = Instant::now();
        let age = |sample: &Option<Arc<Sample>>| {
            sample.as_ref().map_or(Duration::MAX, |sample| now.duration_since(sample.at))
        };
        let mut samples = self.lock();
        if age(&samples.latest) > YOUNG {
            drop(samples);
            let sample = Arc::new(Sample::take(admin));
            samples = self.lock();
            samples.before = samples.latest.replace(sample);
        }
        let before = samples.before.clone().filter(|sample| now.duration_since(sample.at) < OLD);
        Look(before.map(|before| {
            let seconds = now.duration_since(before.at).as_secs_f64();
            (before, seconds)
        }))
    }

    /// Waits until there is something to compare with.
    async fn wait(&self, admin: &Admin) {
        if self.look(admin).0.is_none() {
            tokio::time::sleep(YOUNG + Duration::from_millis(1)).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Samples> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sample {
    fn take(admin: &Admin) -> Self {
        let mut frames = HashMap::default();
        admin.shared.sessions.each(|mailbox| {
            frames.insert(mailbox.session(), frames_of(&mailbox));
        });
        Self { at: Instant::now(), frames }
    }
}

impl Look {
    /// No rates at all.
    pub(super) fn nothing() -> Self {
        Self(None)
    }

    /// A session's frames in a thousand seconds; one that was not there then has none yet.
    fn milli(&self, mailbox: &Mailbox) -> Option<u64> {
        let (before, seconds) = self.0.as_ref()?;
        let frames = frames_of(mailbox) - before.frames.get(&mailbox.session())?;
        Some((frames as f64 * 1_000.0 / seconds) as u64)
    }
}

fn frames_of(mailbox: &Mailbox) -> u64 {
    mailbox.badge().taken().0 + mailbox.badge().given().0
}

// ---- cursors -------------------------------------------------------------------------------------

/// The last row of the page before: what it is sorted by, and its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cursor(Place);

impl std::str::FromStr for Cursor {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = || {
            let (key, session) = text.split_once('-')?;
            Some(Self((key.parse().ok()?, std::cmp::Reverse(session.parse().ok()?))))
        };
        read().ok_or("this is not a cursor: it is what the page before calls `next`")
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (key, std::cmp::Reverse(session)) = self.0;
        write!(f, "{key}-{session}")
    }
}

impl std::str::FromStr for Sort {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "age" => Self::Age,
            "queue" => Self::Queue,
            "rate" => Self::Rate,
            _ => return Err("this is not an order: it is age, queue or rate"),
        })
    }
}

const USUAL_PAGE: usize = 100;
const LONGEST_PAGE: usize = 1_000;
/// A sample that is younger says too little of a rate.
const YOUNG: Duration = Duration::from_secs(1);
/// One that is older is about another time.
const OLD: Duration = Duration::from_secs(15);
