//! Every metric: its name, what it says, its kind and its labels. Names end with their unit, in base units;
//! labels are classes, modes, outcomes, reasons, states and threads, never ids, so that the number of series
//! is bounded by what the configuration and this program can name.

use prometheus::proto::MetricType::{self, COUNTER, GAUGE, HISTOGRAM};

/// One metric.
#[derive(Debug)]
pub(super) struct Family {
    pub name: &'static str,
    pub help: &'static str,
    pub kind: MetricType,
    pub labels: &'static [&'static str],
}

macro_rules! families {
    ($($constant:ident: $kind:ident $name:literal $labels:tt, $help:literal;)*) => {
        $(pub(super) const $constant: Family =
            Family { name: $name, help: $help, kind: $kind, labels: &$labels };)*
    };
}

families! {
    FRAMES_RECEIVED: COUNTER "switchboard_frames_received_total" ["class", "mode"],
        "Data frames that came in from nodes.";
    RECEIVED_BYTES: COUNTER "switchboard_received_bytes_total" ["class", "mode"],
        "Bytes of the data frames that came in, headers included.";
    FRAMES: COUNTER "switchboard_frames_total" ["class", "mode", "outcome"],
        "Data frames, or copies of a broadcast, by where they ended.";
    ENDED_BYTES: COUNTER "switchboard_ended_bytes_total" ["class", "mode", "outcome"],
        "Bytes of the data frames, or copies of a broadcast, by where they ended.";
    DROPPED_FRAMES: COUNTER "switchboard_dropped_frames_total" ["class", "reason"],
        "Data frames, or copies of a broadcast, that did not reach their target.";
    READ_TO_WRITE: HISTOGRAM "switchboard_read_to_write_seconds" [],
        "From the read of a batch of frames to the write of its last byte, of one batch in 128.";
    READS: COUNTER "switchboard_reads_total" [],
        "Reads from sockets that brought bytes.";
    WRITES: COUNTER "switchboard_writes_total" [],
        "Writes to sockets that took bytes.";
    PARKED_FRAMES: GAUGE "switchboard_parked_frames" ["class"],
        "Frames that wait for an instance.";
    PARKED_BYTES: GAUGE "switchboard_parked_bytes" ["class"],
        "Bytes of the frames that wait.";
    PARKED: COUNTER "switchboard_parked_total" ["class"],
        "Frames that began to wait for an instance.";
    RELEASED: COUNTER "switchboard_released_total" ["class"],
        "Frames that an instance took after they had waited.";

    CONNECTIONS: COUNTER "switchboard_connections_total" [],
        "Connections of nodes that were accepted.";
    ACCEPT_FAILURES: COUNTER "switchboard_accept_failures_total" [],
        "Times that the system gave no connection though one was there.";
    SESSIONS: GAUGE "switchboard_sessions" ["state"],
        "Connections of nodes: not admitted yet, active, or finishing what they have.";
    SESSIONS_ENDED: COUNTER "switchboard_sessions_ended_total" ["reason"],
        "Sessions that ended, by why.";
    HANDSHAKE_FAILURES: COUNTER "switchboard_handshake_failures_total" ["reason"],
        "Connections that were not admitted, by why.";
    HEARTBEATS_MISSED: COUNTER "switchboard_heartbeats_missed_total" [],
        "Heartbeats of nodes that did not come in time; three in a row end the session.";
    PAUSED_SOURCES: GAUGE "switchboard_paused_sources" [],
        "Senders that are not read now, because a mailbox that they send to is full.";
    SOURCE_PAUSES: COUNTER "switchboard_source_pauses_total" [],
        "Times that a full mailbox stopped the reading of a sender.";

    INSTANCES: GAUGE "switchboard_instances" ["class", "state"],
        "Instances of a class: live, or draining, which only Direct frames reach.";
    MASTERS: GAUGE "switchboard_masters" ["class"],
        "1 while the class has a master, or else 0.";
    MASTER_EPOCH: GAUGE "switchboard_master_epoch" ["class"],
        "The epoch of a class's master; it grows whenever the master changes.";
    MASTER_CHANGES: COUNTER "switchboard_master_changes_total" ["class"],
        "Times that a class got another master, or none.";
    MAILBOX_BYTES: GAUGE "switchboard_mailbox_bytes" ["class"],
        "Bytes that wait in the mailboxes of a class's instances.";
    LARGEST_MAILBOX: GAUGE "switchboard_mailbox_largest_bytes" ["class"],
        "Bytes that wait in the fullest mailbox of a class.";
    HIGH_WATER: GAUGE "switchboard_mailbox_high_water_bytes" ["class"],
        "The bytes at which a mailbox of the class is full.";

    DRAINING: GAUGE "switchboard_draining" [],
        "1 while the router drains.";
    RELOADS: COUNTER "switchboard_reloads_total" ["outcome"],
        "Times that the configuration was read again: applied, or refused for a mistake in it.";
    LAST_RELOAD: GAUGE "switchboard_last_reload_successful" [],
        "0 while the last configuration that was read again had a mistake, or else 1.";
    SHARD_BUSY: COUNTER "switchboard_shard_busy_seconds_total" ["shard"],
        "How long each thread worked and did not wait for something to do.";
    BUILD: GAUGE "switchboard_build_info" ["version", "router"],
        "Always 1.";

    RESIDENT: GAUGE "process_resident_memory_bytes" [],
        "Resident memory size in bytes.";
    CPU: COUNTER "process_cpu_seconds_total" [],
        "Total user and system CPU time spent in seconds.";
    OPEN_FDS: GAUGE "process_open_fds" [],
        "Number of open file descriptors.";
    MAX_FDS: GAUGE "process_max_fds" [],
        "Maximum number of open file descriptors.";
    START_TIME: GAUGE "process_start_time_seconds" [],
        "Start time of the process since unix epoch in seconds.";
}
