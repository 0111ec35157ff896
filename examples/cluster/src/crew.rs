//! The processes of the cluster as their parent sees them: who is there, and what they said.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio::io::{BufReader, Lines};
use tokio::process::ChildStdout;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::Options;
use crate::news::{News, Order, Report};
use crate::roles::router::{CONFIG, CONFIG_FILE};
use crate::spawn::{Child, Content, Letter};
use crate::stream::{GAMESVRS, MATCHSVR};
use crate::table::Table;
use crate::targets::Targets;

/// The routers, the nodes, and what they said.
#[derive(Debug)]
pub struct Crew {
    pub table: Table,
    pub story: Story,
    /// By name.
    pub routers: BTreeMap<String, Router>,
    nodes: BTreeMap<String, Child>,
    targets: Targets,
    options: Options,
    dir: PathBuf,
    /// Where all routers listen, a dead one too.
    addresses: Vec<String>,
    /// When to ask the next time, or to show what was answered.
    second: Instant,
    asked: bool,
    letters: mpsc::UnboundedReceiver<Letter>,
    mailroom: mpsc::UnboundedSender<Letter>,
}

/// A router.
#[derive(Debug)]
pub struct Router {
    pub process: Child,
    /// Where nodes connect.
    pub address: String,
    /// Where operators connect.
    pub admin: String,
    /// It would fail if nobody held the other end.
    _says: Lines<BufReader<ChildStdout>>,
}

/// What the nodes said. Times are microseconds since 1970.
#[derive(Debug, Default)]
pub struct Story {
    /// Who is connected, by its id.
    pub ready: BTreeMap<String, u32>,
    /// To how many routers each is connected.
    pub links: BTreeMap<String, usize>,
    /// Who lost the killed router, and when.
    pub links_lost: BTreeMap<String, u64>,
    /// Who became master, with epoch and time.
    pub promoted: Vec<(String, u64, u64)>,
    /// Who handled a first message as master, with epoch and time.
    pub first: Vec<(String, u64, u64)>,
    /// When game servers were told that a match server left.
    pub left_seen: Vec<u64>,
    /// What game servers were told of the master: epoch and time.
    pub master_seen: Vec<(u64, u64)>,
    /// Which game servers rest, and the fences that they sent by class.
    pub stopped: BTreeMap<String, BTreeMap<String, u64>>,
    pub reports: BTreeMap<String, Report>,
    pub troubles: Vec<String>,
    /// Whose end is no surprise: the names of nodes, and the address of a router.
    may_end: BTreeSet<String>,
}

impl Crew {
    /// Starts the routers.
    pub async fn start(options: &Options, dir: &Path, mut table: Table) -> anyhow::Result<Self> {
        let config = dir.join(CONFIG_FILE);
        std::fs::write(&config, CONFIG).with_context(|| format!("{}", config.display()))?;
        let mut routers = BTreeMap::new();
        let mut addresses = Vec::new();
        let mut targets = Targets::new(options.targets.as_deref());
        for name in ROUTERS {
            let router = Router::start(name, dir).await?;
            table.say(&format!("{name}, a router, shows itself at http://{}", router.admin));
            addresses.push(router.address.clone());
            targets.add("router", name, &router.admin)?;
            routers.insert(name.to_owned(), router);
        }
        let (mailroom, letters) = mpsc::unbounded_channel();
        Ok(Self {
            table,
            story: Story::default(),
            routers,
            nodes: BTreeMap::new(),
            targets,
            options: options.clone(),
            dir: dir.to_owned(),
            addresses,
            second: Instant::now() + SECOND,
            asked: false,
            letters,
            mailroom,
        })
    }

    /// The seconds begin.
    pub fn begin(&mut self) {
        self.table.begin();
        self.second = Instant::now() + SECOND;
        self.asked = false;
    }

    /// Starts a node; `life` counts the processes that had its name.
    pub fn hire(&mut self, class: &str, instance: u32, life: u32) -> anyhow::Result<()> {
        let name = format!("{class}.{instance}");
        let Options { players, rate, lose_one, .. } = self.options;
        let mut arguments = vec![class.to_owned()];
        for (option, value) in [
            ("instance", instance.to_string()),
            ("life", life.to_string()),
            ("dir", self.dir.display().to_string()),
            ("players", players.to_string()),
            ("rate", rate.to_string()),
        ] {
            arguments.extend([format!("--{option}"), value]);
        }
        for address in &self.addresses {
            arguments.extend(["--router".to_owned(), address.clone()]);
        }
        if self.options.targets.is_some() {
            arguments.push("--metrics".to_owned());
        }
        if lose_one && instance == GAMESVRS {
            arguments.push("--lose-one".to_owned());
        }
        self.story.ready.remove(&name);
        self.story.links.remove(&name);
        self.story.may_end.remove(&name);
        let child = Child::node(&name, &arguments, self.mailroom.clone())?;
        self.nodes.insert(name, child);
        Ok(())
    }

    /// The names of a class's nodes, or of all of them.
    pub fn names(&self, class: &str) -> Vec<String> {
        let names = self.nodes.values().map(|child| child.name().to_owned());
        names.filter(|name| name.starts_with(class)).collect()
    }

    /// Gives an order.
    pub async fn order(&mut self, name: &str, order: &Order) -> anyhow::Result<()> {
        if *order == Order::Close {
            self.story.may_end.insert(name.to_owned());
        }
        self.nodes.get_mut(name).with_context(|| format!("no {name}"))?.order(order).await
    }

    /// Kills a node; answers the process id that it had.
    pub async fn kill(&mut self, name: &str) -> anyhow::Result<u32> {
        self.story.may_end.insert(name.to_owned());
        let mut child = self.nodes.remove(name).with_context(|| format!("no {name}"))?;
        let pid = child.pid().with_context(|| format!("{name} is gone already"))?;
        child.kill().await?;
        Ok(pid)
    }

    /// Kills a router; answers the process id that it had.
    pub async fn kill_router(&mut self, name: &str) -> anyhow::Result<u32> {
        let mut router = self.routers.remove(name).with_context(|| format!("no {name}"))?;
        let pid = router.process.pid().with_context(|| format!("{name} is gone already"))?;
        self.story.may_end.insert(router.address);
        router.process.kill().await?;
        Ok(pid)
    }

    /// Has a node leave, and waits until it has.
    pub async fn dismiss(&mut self, name: &str) -> anyhow::Result<()> {
        self.order(name, &Order::Close).await?;
        self.nodes.remove(name).with_context(|| format!("no {name}"))?.left().await
    }

    /// Listens until then, and shows the table every second.
    pub async fn listen_until(&mut self, then: Instant) -> anyhow::Result<()> {
        self.listen(then, |_| false).await.map(drop)
    }

    /// Listens until it has been said.
    pub async fn hear(&mut self, what: &str, said: impl Fn(&Story) -> bool) -> anyhow::Result<()> {
        let heard = self.listen(Instant::now() + PATIENCE, said).await?;
        ensure!(heard, "waited {PATIENCE:?} in vain for this: {what}");
        Ok(())
    }

    async fn listen(
        &mut self,
        until: Instant,
        said: impl Fn(&Story) -> bool,
    ) -> anyhow::Result<bool> {
        loop {
            if said(&self.story) {
                return Ok(true);
            }
            tokio::select! {
                Some(letter) = self.letters.recv() => self.read(letter)?,
                () = sleep_until(self.second) => self.tick().await?,
                () = sleep_until(until) => return Ok(false),
            }
        }
    }

    /// Once a second all are asked what they did, and shortly afterwards the table is shown.
    async fn tick(&mut self) -> anyhow::Result<()> {
        let asked = self.asked;
        self.asked = !asked;
        match asked {
            true => {
                self.table.show();
                self.second += SECOND - ANSWER;
            }
            false => {
                for child in self.nodes.values_mut() {
                    child.order(&Order::Tick).await?;
                }
                self.second += ANSWER;
            }
        }
        Ok(())
    }

    fn read(&mut self, letter: Letter) -> anyhow::Result<()> {
        let Letter { from, content } = letter;
        let news = match content {
            Content::News(news) => *news,
            Content::Garbled(line) => bail!("{from} says `{line}`"),
            Content::End if self.story.may_end.contains(&from) => return Ok(()),
            Content::End => bail!("{from} ended before its time"),
        };
        match &news {
            // Every class has a master, and only that of the match servers matters here.
            News::Promoted { .. } | News::Demoted { .. } if !from.starts_with(MATCHSVR) => {
                return Ok(());
            }
            News::Tick(pulses) => self.table.note(pulses),
            News::Promoted { epoch, .. } => {
                self.table.say(&format!("{from} is the master now, in epoch {epoch}"));
            }
            News::Ready { metrics: Some(address), .. } => {
                self.targets.add("node", &from, &address.to_string())?;
            }
            News::Demoted { .. } => self.table.say(&format!("{from} is no longer the master")),
            News::LinkLost { router, why, .. } if !self.story.may_end.contains(router) => {
                bail!("{from} lost the router at {router}: {why}");
            }
            News::Trouble { what } => self.table.say(&format!("{from}: {what}")),
            _ => {}
        }
        self.story.note(from, news);
        Ok(())
    }
}

impl Router {
    async fn start(name: &str, dir: &Path) -> anyhow::Result<Self> {
        let arguments = ["router", "--name", name, "--dir"].map(str::to_owned);
        let arguments = [&arguments[..], &[dir.display().to_string()]].concat();
        let log = dir.join(format!("{name}.log"));
        let (process, ready, says) = Child::router(name, &arguments, &log).await?;
        let field = |name: &str| {
            let found = ready.split(' ').find_map(|word| word.strip_prefix(name));
            found.map(str::to_owned).with_context(|| format!("`{ready}` is no ready line"))
        };
        Ok(Self { process, address: field("listen=")?, admin: field("admin=")?, _says: says })
    }
}

impl Story {
    /// Whether a node can be reached, over every router.
    pub fn is_there(&self, name: &str) -> bool {
        self.ready.contains_key(name) && self.links.get(name) == Some(&ROUTERS.len())
    }

    /// The master of the largest epoch that was heard of. News of two processes come in any order.
    pub fn master(&self) -> Option<(&str, u64)> {
        let last = self.promoted.iter().max_by_key(|(_, epoch, _)| *epoch);
        last.map(|(who, epoch, _)| (who.as_str(), *epoch))
    }

    fn note(&mut self, from: String, news: News) {
        match news {
            News::Ready { id, .. } => drop(self.ready.insert(from, id)),
            News::Connected { .. } => *self.links.entry(from).or_default() += 1,
            News::LinkLost { at, .. } => drop(self.links_lost.insert(from, at)),
            News::Promoted { epoch, at } => self.promoted.push((from, epoch, at)),
            News::FirstAsMaster { epoch, at } => self.first.push((from, epoch, at)),
            News::SawLeft { at, .. } => self.left_seen.push(at),
            News::SawMaster { epoch, at, .. } => self.master_seen.push((epoch, at)),
            News::Stopped { fences } => drop(self.stopped.insert(from, fences)),
            News::Report(report) => drop(self.reports.insert(from, report)),
            News::Trouble { what } => self.troubles.push(format!("{from}: {what}")),
            News::Tick(_) | News::Demoted { .. } => {}
        }
    }
}

/// The routers. Their names decide which of them the frames to a class take; blue has the shards.
pub const ROUTERS: [&str; 2] = ["red", "blue"];
const SECOND: Duration = Duration::from_secs(1);
/// How long all have for an answer before the table is shown.
const ANSWER: Duration = Duration::from_millis(50);
/// How long anything that must happen may take.
const PATIENCE: Duration = Duration::from_secs(45);
