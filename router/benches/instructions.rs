//! How many instructions the data plane takes for a frame, counted by callgrind, so that a busy machine counts
//! the same; and the ceilings that none may pass. Needs valgrind.
//!
//! `cargo bench -p switchboard-router --features bench --bench instructions`
//!
//! The program runs itself under callgrind, once for each bench, and counts within [`measured`] alone. Instructions
//! of the kernel are not counted. A ceiling is about an eighth above what was
//! measured when it was set: a compiler moves counts by a few percent, a mistake by more. Who makes something
//! cheaper lowers its ceiling in the same commit.
#![forbid(unsafe_code)]
#![allow(missing_docs, clippy::print_stdout, reason = "it is what this program is for")]

use std::hint::black_box;
use std::process::{Command, ExitCode};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use bytes::BytesMut;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use switchboard_protocol::control::{LeftReason, Service};
use switchboard_protocol::limits::DEFAULT_MAX_FRAME;
use switchboard_protocol::{Class, FixedHeader, Frame, Header, Instance, Mode, ServiceId};
use switchboard_router::bench::Road;
use switchboard_router::policy::{ClassPolicy, HashPolicy, Policies};
use switchboard_router::registry::{Change, Effects, Handle, Program, Registry};
use switchboard_router::tokens::Pass;

/// Instructions for each, at most.
const CEILINGS: &[(&str, f64)] = &[
    ("decode: a header", 78.0),
    ("decode: a frame, by a node", 250.0),
    ("pick: direct of 10", 125.0),
    ("pick: direct of 100,000", 230.0),
    ("pick: master of 10", 130.0),
    ("pick: master of 100,000", 235.0),
    ("pick: hash, fixed, of 10", 135.0),
    ("pick: hash, fixed, of 100,000", 280.0),
    ("pick: hash, rendezvous, of 10", 170.0),
    ("pick: hash, rendezvous, of 100,000", 275.0),
    ("pick: hash, modulo, of 10", 140.0),
    ("pick: hash, modulo, of 100,000", 285.0),
    ("pick: random of 10", 150.0),
    ("pick: random of 100,000", 285.0),
    ("pick: least loaded of 10", 285.0),
    ("pick: least loaded of 100,000", 570.0),
    ("pick: broadcast of 10", 41.0),
    ("pick: broadcast of 100,000", 41.0),
    ("route: direct to 1 mailbox", 86.0),
    ("route: direct to 4 mailboxes", 170.0),
    ("route: hash over 4 mailboxes", 575.0),
    ("route: broadcast to 4 mailboxes, a copy", 7.0),
    ("insert: into a class of 10", 15600.0),
    ("insert: into a class of 1,000", 16700.0),
    ("insert: into a class of 100,000", 18000.0),
    ("leave: masters, behind 1", 18500.0),
    ("leave: masters, behind 50,000", 18500.0),
];

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let result = match (arguments.next().as_deref(), arguments.next()) {
        (Some("measure"), Some(name)) => measure(&name),
        _ => compare(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

// ---- counting --------------------------------------------------------------------------------------

/// Has each bench counted, and compares it with its ceiling.
fn compare() -> Result<()> {
    let mut over = Vec::new();
    for (name, ceiling) in CEILINGS {
        let count = count(name).with_context(|| format!("{name} is not counted"))?;
        println!("{name:<40} {count:>10.1} of {ceiling:>7}");
        if count > *ceiling {
            over.push(format!("{name}: {count:.1} instructions, over the ceiling of {ceiling}"));
        }
    }
    ensure!(over.is_empty(), "{}", over.join("\n"));
    Ok(())
}

/// Runs this program under callgrind for one bench. Answers with the instructions of each operation.
fn count(name: &str) -> Result<f64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--toggle-collect=instructions::measured"])
        .arg("--callgrind-out-file=/dev/null")
        .arg(std::env::current_exe()?)
        .args(["measure", name])
        .output()
        .context("valgrind does not start; it is in a package of that name")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{said}");
    let collected = said.lines().find_map(|line| line.split_once("Collected : "));
    let (_, collected) = collected.with_context(|| said.clone().into_owned())?;
    let operations = String::from_utf8(output.stdout)?;
    Ok(collected.trim().parse::<f64>()? / operations.trim().parse::<f64>()?)
}

/// What is counted is what happens in here.
#[inline(never)]
fn measured(work: &mut dyn FnMut()) {
    work();
    // It returns here, and does not jump there for good.
    black_box(());
}

/// Does what is counted, and says how many operations it is.
fn bench(operations: usize, mut work: impl FnMut()) {
    measured(&mut work);
    println!("{operations}");
}

// ---- what is counted -------------------------------------------------------------------------------

fn measure(name: &str) -> Result<()> {
    let (what, of) = name.split_once(": ").context("a room, and what happens there")?;
    match what {
        "decode" => decode(of),
        "pick" => pick(of),
        "route" => {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            runtime.enable_all().build()?.block_on(route(of))
        }
        "insert" => insert(of),
        "leave" => leave(of),
        _ => bail!("no bench is called {name}"),
    }
}

const MANY: usize = 1_000;

fn decode(what: &str) -> Result<()> {
    let (from, class) = (ServiceId::new(Class::new(6)?, Instance::new(1)?), Class::new(5)?);
    let bytes = frames(from, class, 4, Mode::Direct);
    let mut buffer = BytesMut::from(&bytes[..]);
    match what {
        "a header" => bench(MANY, || {
            let mut at = 0;
            while let Ok(Some(header)) = FixedHeader::parse(&bytes[at..], DEFAULT_MAX_FRAME) {
                at += black_box(header).length as usize;
            }
            assert_eq!(at, bytes.len());
        }),
        "a frame, by a node" => bench(MANY, || {
            while let Ok(Some(frame)) = Frame::decode(&mut buffer, DEFAULT_MAX_FRAME) {
                black_box(frame);
            }
            assert!(buffer.is_empty());
        }),
        _ => bail!("nothing else is decoded than headers and frames"),
    }
    Ok(())
}

fn pick(what: &str) -> Result<()> {
    let (how, size) = what.split_once(" of ").context("a mode, and of how many")?;
    let (mode, hash) = match how {
        "direct" => (Mode::Direct, HashPolicy::Fixed),
        "master" => (Mode::Master, HashPolicy::Fixed),
        "hash, fixed," => (Mode::Hash, HashPolicy::Fixed),
        "hash, rendezvous," => (Mode::Hash, HashPolicy::Rendezvous),
        "hash, modulo," => (Mode::Hash, HashPolicy::Modulo),
        "random" => (Mode::Random, HashPolicy::Fixed),
        "least loaded" => (Mode::LeastLoaded, HashPolicy::Fixed),
        "broadcast" => (Mode::Broadcast, HashPolicy::Fixed),
        _ => bail!("no mode is called {how}"),
    };
    let size = number(size)?;
    let registry = registered(size, hash)?;
    let table = registry.table().class(Class::new(5)?).context("it is registered")?;
    let rng = &mut SmallRng::seed_from_u64(1);
    let mut pick = |n: usize| {
        // Few keys: a rendezvous slot is scored when it is first asked for.
        let key = (n % 8) as u64;
        let target = 5 << 24 | (n as u32 * 7_919 % size + 1);
        black_box(table.pick(mode, black_box(target), black_box(key), rng));
    };
    (0..8).for_each(&mut pick);
    bench(MANY, || (0..MANY).for_each(&mut pick));
    Ok(())
}

async fn route(what: &str) -> Result<()> {
    let (targets, mode, copies) = match what {
        "direct to 1 mailbox" => (1, Mode::Direct, 1),
        "direct to 4 mailboxes" => (4, Mode::Direct, 1),
        "hash over 4 mailboxes" => (4, Mode::Hash, 1),
        "broadcast to 4 mailboxes, a copy" => (4, Mode::Broadcast, 4),
        _ => bail!("no road leads there"),
    };
    let (from, class) = (ServiceId::new(Class::new(6)?, Instance::new(1)?), Class::new(5)?);
    let mut road = Road::new(from, class, targets).await;
    let bytes = frames(from, class, targets, mode);
    // The first times allocate what later ones use again.
    for _ in 0..3 {
        ensure!(road.drive(&bytes) == bytes.len(), "all is taken");
        ensure!(road.clear() == bytes.len() * copies, "all has arrived");
    }
    bench(MANY * copies, || {
        black_box(road.drive(&bytes));
    });
    ensure!(road.clear() == bytes.len() * copies, "all has arrived");
    Ok(())
}

fn insert(what: &str) -> Result<()> {
    let size = number(what.strip_prefix("into a class of ").context("into a class of some")?)?;
    let mut registry = registered(size, HashPolicy::Fixed)?;
    // Everybody else holds a snapshot, which a change must leave as it is.
    let mut published = registry.table().clone();
    bench(INSERTS as usize, || {
        for number in 0..INSERTS {
            register(&mut registry, size + 1 + number).expect("a free id");
            published = registry.table().clone();
        }
    });
    let class = published.class(Class::new(5)?).context("it is registered")?;
    ensure!(class.count().live == size + INSERTS, "all are in");
    Ok(())
}

/// Masters, one after the other: each leaves a hole where the next election begins to look.
fn leave(what: &str) -> Result<()> {
    let holes = number(what.strip_prefix("masters, behind ").context("how many have left")?)?;
    let holes = holes.checked_sub(1).context("one has left at least")?;
    let mut registry = registered(holes + INSERTS + 1, HashPolicy::Fixed)?;
    for instance in 1..=holes {
        unregister(&mut registry, instance)?;
    }
    let mut published = registry.table().clone();
    bench(INSERTS as usize, || {
        for number in 1..=INSERTS {
            unregister(&mut registry, holes + number).expect("it is registered");
            published = registry.table().clone();
        }
    });
    let class = published.class(Class::new(5)?).context("it is registered")?;
    ensure!(class.count().live == 1, "one is left");
    Ok(())
}

/// A number with commas.
fn number(text: &str) -> Result<u32> {
    Ok(text.replace(',', "").parse()?)
}

const INSERTS: u32 = 100;

/// As many frames of 64 bytes as a read may bring, to instances 1 to `targets`.
fn frames(from: ServiceId, class: Class, targets: u32, mode: Mode) -> Vec<u8> {
    let mut bytes = Vec::new();
    for n in 0..MANY as u32 {
        let mut header = match mode {
            Mode::Direct => {
                let instance = Instance::new(n % targets + 1).expect("not 0");
                Header::direct(from, ServiceId::new(class, instance))
            }
            mode => Header::to_class(from, mode, class),
        };
        header.key = n.into();
        let payload = vec![0; 64 - header.len()];
        Frame::new(header, payload).encode(&mut bytes);
    }
    bytes
}

/// A session by its number.
#[derive(Debug, Clone)]
struct Session(Arc<u64>);

impl Handle for Session {
    fn session(&self) -> u64 {
        *self.0
    }
}

/// Instances 1 to `size` of class 5.
fn registered(size: u32, hash: HashPolicy) -> Result<Registry<Session>> {
    let default = ClassPolicy { hash, ..ClassPolicy::default() };
    let policies = Arc::new(Policies { default, ..Policies::default() });
    let mut registry = Registry::new(policies, 1, 1);
    for instance in 1..=size {
        register(&mut registry, instance)?;
    }
    Ok(registry)
}

fn unregister(registry: &mut Registry<Session>, instance: u32) -> Result<()> {
    let ids = vec![ServiceId::new(Class::new(5)?, Instance::new(instance)?)];
    let handle = Session(Arc::new(instance.into()));
    let change = Change::Unregister { handle, ids, reason: LeftReason::Disconnected };
    match registry.apply(change, 1, &mut Effects::default()) {
        Ok(_) => Ok(()),
        Err(refusal) => bail!("{refusal}"),
    }
}

fn register(registry: &mut Registry<Session>, instance: u32) -> Result<()> {
    let id = ServiceId::new(Class::new(5)?, Instance::new(instance)?);
    let change = Change::Register {
        handle: Session(Arc::new(instance.into())),
        program: Program::default(),
        pass: Pass::default(),
        services: vec![Service::of(id)],
        held: 0,
    };
    match registry.apply(change, 1, &mut Effects::default()) {
        Ok(_) => Ok(()),
        Err(refusal) => bail!("{refusal}"),
    }
}
