"""Who is connected, who can't get in, whose mailboxes fill up, whom that holds up, and what it takes of the machine."""

from .panels import CLASSES, ROUTERS, board as make, graph, row


def board():
    return make(
        "switchboard-sessions",
        "Switchboard / Sessions and pressure",
        "Who is connected, and who can't get in? Whose mailboxes fill up, and whom does that hold up?",
        ROUTERS + CLASSES,
        [
            row("Who comes and goes"),
            graph(
                "Sessions, by state",
                "greeting is not admitted yet, draining finishes what it has. Many that greet: something connects and "
                "does not speak.",
                ("sum by (state) (switchboard_sessions{%R})", "{{state}}"),
                stack=True,
            ),
            graph(
                "Connections",
                "How often nodes connect. All at once is a router that came back; without end it is somebody's retry loop.",
                ("sum by (instance) (rate(switchboard_connections_total{%R}[w]))", "{{instance}}"),
                unit="cps",
            ),
            graph(
                "Sessions that end, by why",
                "disconnected is a node's own doing. slow_consumer, malformed and replaced name the node in the log; "
                "closed was an operator.",
                ("sum by (reason) (rate(switchboard_sessions_ended_total{%R}[w]))", "{{reason}}"),
                unit="cps",
            ),
            graph(
                "Nodes that can't get in, by why",
                "unauthorized, not_allowed: look at the token. id_taken, outdated_incarnation: two processes have one id. "
                "limit_exceeded: limits.max_connections. disconnected alone is mostly a probe.",
                ("sum by (reason) (rate(switchboard_handshake_failures_total{%R}[w]))", "{{reason}}"),
                unit="cps",
            ),
            graph(
                "Heartbeats missed",
                "Nodes or the network stall. Three in a row end the session as heartbeat_lost.",
                ("sum by (instance) (rate(switchboard_heartbeats_missed_total{%R}[w]))", "{{instance}}"),
                unit="cps",
            ),
            graph(
                "Instances, by class and state",
                "Who is there. Draining ones get Direct frames only, and should leave soon.",
                ("max by (class, state) (switchboard_instances{%C})", "{{class}} {{state}}"),
            ),
            row("Pressure"),
            graph(
                "The fullest mailbox, by class",
                "Near the line: more instances of that class, or find what blocks this one. Which it is, says the "
                "router's own page.",
                (
                    "max by (class) (switchboard_mailbox_largest_bytes{%C} / switchboard_mailbox_high_water_bytes{%C})",
                    "{{class}}",
                ),
                unit="percentunit",
                most=1,
                mark=0.8,
            ),
            graph(
                "Bytes in mailboxes, by class",
                "All of a class together. Much here and little in the fullest: the whole class is too slow.",
                ("sum by (class) (switchboard_mailbox_bytes{%C})", "{{class}}"),
                unit="bytes",
                stack=True,
            ),
            graph(
                "Senders held up",
                "Connections that are not read now, because a mailbox that they send to is full.",
                ("sum by (instance) (switchboard_paused_sources{%R})", "{{instance}}"),
            ),
            graph(
                "Pauses",
                "How often a full mailbox stopped a sender. Many short ones are backpressure that works.",
                ("sum by (instance) (rate(switchboard_source_pauses_total{%R}[w]))", "{{instance}}"),
                unit="cps",
            ),
            graph(
                "Lost to pressure, by class",
                "What full mailboxes cost where the class's overflow is not pause.",
                (
                    'sum by (class, reason) (rate(switchboard_dropped_frames_total{%C,reason=~"full|evicted"}[w]))',
                    "{{class}} {{reason}}",
                ),
                unit="cps",
            ),
            graph(
                "Bytes at which a mailbox is full",
                "The setting high_water_bytes of each class. A step is a reload.",
                ("max by (class) (switchboard_mailbox_high_water_bytes{%C})", "{{class}}"),
                unit="bytes",
            ),
            row("What it takes of the machine"),
            graph(
                "How busy threads are",
                "Near the line frames wait for the thread: more shards, or one more router.",
                ("rate(switchboard_shard_busy_seconds_total{%R}[w])", "{{instance}} {{shard}}"),
                unit="percentunit",
                most=1,
                mark=0.8,
            ),
            graph(
                "CPU",
                "Cores in use, the kernel's work for it included.",
                ("rate(process_cpu_seconds_total{%R}[w])", "{{instance}}"),
            ),
            graph(
                "Resident memory",
                "Memory beyond what is parked and in mailboxes is about sessions.",
                ("process_resident_memory_bytes{%R}", "{{instance}}"),
                unit="bytes",
            ),
            graph(
                "File descriptors in use",
                "Each node takes one. Near the line raise the limit of open files.",
                ("process_open_fds{%R} / process_max_fds{%R}", "{{instance}}"),
                unit="percentunit",
                most=1,
                mark=0.9,
                width=12,
            ),
            graph(
                "Connections that the system did not give",
                "Not 0: the limit of open files, or of the system's memory, is reached.",
                ("sum by (instance) (rate(switchboard_accept_failures_total{%R}[w]))", "{{instance}}"),
                unit="cps",
                width=12,
            ),
        ],
    )
