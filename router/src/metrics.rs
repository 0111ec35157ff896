//! The metrics page. All names of metrics are in this file; labels are classes, modes and outcomes,
//! never ids. A scrape builds the page from the threads' counters and the published table.

use prometheus::{Encoder, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder};

use crate::counters::{Bucket, Counter, Counters, Outcome};
use crate::shared::Shared;

/// The page in Prometheus' text format.
pub(crate) fn page(shared: &Shared) -> Result<Vec<u8>, prometheus::Error> {
    let registry = Registry::new();
    frames(shared, &registry)?;
    parking(shared, &registry)?;
    threads(shared, &registry)?;
    table(shared, &registry)?;
    let mut page = Vec::new();
    TextEncoder::new().encode(&registry.gather(), &mut page)?;
    Ok(page)
}

fn frames(shared: &Shared, registry: &Registry) -> Result<(), prometheus::Error> {
    let class_and_mode = &["class", "mode"];
    let received = counter(
        registry,
        "switchboard_frames_received_total",
        "Data frames that came in from nodes.",
        class_and_mode,
    )?;
    let bytes = counter(
        registry,
        "switchboard_bytes_received_total",
        "Bytes of the data frames that came in, headers included.",
        class_and_mode,
    )?;
    let ended = counter(
        registry,
        "switchboard_frames_total",
        "Data frames, or copies of a broadcast, by where they ended.",
        &["class", "mode", "outcome"],
    )?;
    let policies = shared.settings.load().policies.clone();
    for (class, mode, bucket) in Bucket::all() {
        let all = shared.counters.iter().map(|counters| counters.read_received(bucket));
        let (frames, octets) = all.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        let name = policies.name(class);
        if frames > 0 {
            received.with_label_values(&[&*name, mode.name()]).inc_by(frames);
            bytes.with_label_values(&[&*name, mode.name()]).inc_by(octets);
        }
        for outcome in Outcome::ALL {
            let frames: u64 =
                shared.counters.iter().map(|counters| counters.read_ended(bucket, outcome)).sum();
            if frames > 0 {
                let labels = [&*name, mode.name(), outcome.name()];
                ended.with_label_values(&labels).inc_by(frames);
            }
        }
    }
    Ok(())
}

fn parking(shared: &Shared, registry: &Registry) -> Result<(), prometheus::Error> {
    let class = &["class"];
    let frames =
        gauge(registry, "switchboard_parked_frames", "Frames that wait for an instance.", class)?;
    let bytes =
        gauge(registry, "switchboard_parked_bytes", "Bytes of the frames that wait.", class)?;
    let parked = counter(
        registry,
        "switchboard_parked_total",
        "Frames that began to wait for an instance.",
        class,
    )?;
    let released = counter(
        registry,
        "switchboard_released_total",
        "Frames that an instance took after they had waited.",
        class,
    )?;
    let policies = shared.settings.load().policies.clone();
    for lot in shared.lots.occupancy() {
        let name = policies.name(lot.class);
        frames.with_label_values(&[&name]).set(lot.frames as i64);
        bytes.with_label_values(&[&name]).set(lot.bytes as i64);
        let all = shared.counters.iter().map(|counters| counters.read_parked(lot.class));
        let (began, taken) = all.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        parked.with_label_values(&[&name]).inc_by(began);
        released.with_label_values(&[&name]).inc_by(taken);
    }
    Ok(())
}

fn threads(shared: &Shared, registry: &Registry) -> Result<(), prometheus::Error> {
    type Read = fn(&Counters) -> &Counter;
    let all: [(&str, &str, Read); 5] = [
        ("switchboard_reads_total", "Reads from sockets that brought bytes.", |c| &c.reads),
        ("switchboard_writes_total", "Writes to sockets that took bytes.", |c| &c.writes),
        (
            "switchboard_source_pauses_total",
            "Times that a full mailbox stopped the reading of a sender.",
            |c| &c.pauses,
        ),
        (
            "switchboard_malformed_sessions_total",
            "Sessions that ended because what they sent can't be read.",
            |c| &c.malformed,
        ),
        ("switchboard_handshake_failures_total", "Connections that were not admitted.", |c| {
            &c.handshakes_failed
        }),
    ];
    for (name, help, read) in all {
        let sum = shared.counters.iter().map(|counters| read(counters).read()).sum();
        counter(registry, name, help, &[])?.with_label_values(&[] as &[&str]).inc_by(sum);
    }
    Ok(())
}

fn table(shared: &Shared, registry: &Registry) -> Result<(), prometheus::Error> {
    let sessions = gauge(registry, "switchboard_sessions", "Connections of nodes.", &[])?;
    sessions.with_label_values(&[] as &[&str]).set(shared.sessions.count() as i64);
    let instances =
        gauge(registry, "switchboard_instances", "Live instances of a class.", &["class"])?;
    let epoch = gauge(
        registry,
        "switchboard_master_epoch",
        "The epoch of a class's master; it grows whenever the master changes.",
        &["class"],
    )?;
    let changes = counter(
        registry,
        "switchboard_master_changes_total",
        "Times that a class got another master, or none.",
        &["class"],
    )?;
    let draining = gauge(
        registry,
        "switchboard_draining_instances",
        "Instances that left their class but finish what they have.",
        &["class"],
    )?;
    let leaving = gauge(registry, "switchboard_draining", "1 while the router drains.", &[])?;
    leaving.with_label_values(&[] as &[&str]).set(shared.is_draining().into());
    let policies = shared.settings.load().policies.clone();
    for class in shared.published.load().classes() {
        let name = policies.name(class.class());
        instances.with_label_values(&[&name]).set(class.count().live.into());
        epoch.with_label_values(&[&name]).set(class.master().1 as i64);
        changes.with_label_values(&[&name]).inc_by(class.master_changes());
        draining.with_label_values(&[&name]).set(class.count_draining().into());
    }
    let build = gauge(registry, "switchboard_build_info", "Always 1.", &["version", "router"])?;
    build.with_label_values(&[env!("CARGO_PKG_VERSION"), &shared.name]).set(1);
    Ok(())
}

fn counter(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntCounterVec, prometheus::Error> {
    let vec = IntCounterVec::new(Opts::new(name, help), labels)?;
    registry.register(Box::new(vec.clone()))?;
    Ok(vec)
}

fn gauge(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntGaugeVec, prometheus::Error> {
    let vec = IntGaugeVec::new(Opts::new(name, help), labels)?;
    registry.register(Box::new(vec.clone()))?;
    Ok(vec)
}
