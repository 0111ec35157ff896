"""The first look, at three in the morning: what is down, what is lost, who is slow, and did somebody deploy?"""

from .panels import CLASSES, ROUTERS, board as make, graph, row, stat, table


def board():
    return make(
        "switchboard-overview",
        "Switchboard / Overview",
        "Is a router down? Is anything lost, and why? Who is slow? Which class has no master? Start here.",
        ROUTERS + CLASSES,
        [
            stat(
                "Routers down",
                "Routers that Prometheus can't reach. Nodes go on with the others; start it again, and read its log.",
                "sum(1 - up{%R})",
                bad=1,
            ),
            stat(
                "Alerts",
                "Alerts of Switchboard that fire. What each means and what to do is in docs/operations.md.",
                'count(ALERTS{alertname=~"Switchboard.*",alertstate="firing"}) or vector(0)',
                warn=1,
            ),
            stat(
                "Classes without a master",
                "Classes that had an instance and have none now, at some router. Start one; which, says the mastership board.",
                'sum(switchboard_masters{%C,class!="http-calls"} == bool 0)',
                bad=1,
                zero="0",
            ),
            stat(
                "Lost",
                "Frames a second that did not reach their target. Below it says of which class and why.",
                "sum(rate(switchboard_dropped_frames_total{%C}[w]))",
                unit="cps",
                warn=0.01,
                zero="0",
            ),
            stat(
                "Parked",
                "Frames that wait for an instance. They expire after the class's park_ms: start an instance before.",
                "sum(switchboard_parked_frames{%C})",
                warn=1,
                zero="0",
            ),
            stat(
                "Senders held up",
                "Connections that are not read, because a mailbox that they send to is full. Find it on the sessions board.",
                "sum(switchboard_paused_sources{%R})",
                warn=1,
            ),
            stat(
                "Fullest mailbox",
                "How full the fullest mailbox is. At 100% the class's overflow decides: senders wait, or frames are lost.",
                "max(switchboard_mailbox_largest_bytes{%C} / switchboard_mailbox_high_water_bytes{%C})",
                unit="percentunit",
                warn=0.5,
                bad=0.8,
                zero="0",
            ),
            stat(
                "Time through a router, p99",
                "From read to write. Above some milliseconds a mailbox is full or a thread is busy.",
                "histogram_quantile(0.99, sum by (le) (rate(switchboard_read_to_write_seconds_bucket{%R}[w])))",
                unit="s",
                warn=0.01,
                bad=0.1,
                zero="idle",
            ),
            row("Traffic"),
            graph(
                "Frames in, by class",
                "How much nodes send, and to which class. A class that falls to nothing has lost its callers.",
                ("sum by (class) (rate(switchboard_frames_received_total{%C}[w]))", "{{class}}"),
                unit="cps",
                stack=True,
            ),
            graph(
                "Lost, by class and reason",
                "no_instance, empty_slot: start the missing instance. full, evicted: its consumers are too slow. "
                "target_lost, expired: look at why sessions end.",
                ("sum by (class, reason) (rate(switchboard_dropped_frames_total{%C}[w])) > 0", "{{class}} {{reason}}"),
                ("sum(rate(switchboard_dropped_frames_total{%C}[w]))", "all"),
                unit="cps",
            ),
            graph(
                "Time from read to write",
                "How long a frame takes through a router, for one batch in 128. The half, and the slowest hundredth.",
                (
                    "histogram_quantile(0.5, sum by (instance, le)"
                    " (rate(switchboard_read_to_write_seconds_bucket{%R}[w])))",
                    "{{instance}} p50",
                ),
                (
                    "histogram_quantile(0.99, sum by (instance, le)"
                    " (rate(switchboard_read_to_write_seconds_bucket{%R}[w])))",
                    "{{instance}} p99",
                ),
                unit="s",
            ),
            row("Nodes"),
            graph(
                "Live instances, by class",
                "Who is there. Teeth are instances that restart; a step that nobody ordered is a crash.",
                ('max by (class) (switchboard_instances{%C,state="live"})', "{{class}}"),
            ),
            graph(
                "Sessions that end",
                "disconnected is a node's own doing, as in a deploy. heartbeat_lost, slow_consumer, malformed: "
                "the router's log names the node.",
                ("sum by (reason) (rate(switchboard_sessions_ended_total{%R}[w]))", "{{reason}}"),
                unit="cps",
            ),
            graph(
                "How full mailboxes are, by class",
                "The fullest of each class. Near the line: more instances, or find what blocks this one.",
                (
                    "max by (class) (switchboard_mailbox_largest_bytes{%C} / switchboard_mailbox_high_water_bytes{%C})",
                    "{{class}}",
                ),
                unit="percentunit",
                most=1,
                mark=0.8,
            ),
            row("Routers"),
            graph(
                "How busy threads are",
                "Near the line frames wait for the thread: more shards, or one more router. If control is the busy "
                "one, nodes come and go too fast.",
                ("rate(switchboard_shard_busy_seconds_total{%R}[w])", "{{instance}} {{shard}}"),
                unit="percentunit",
                most=1,
                mark=0.8,
            ),
            graph(
                "Resident memory",
                "Memory beyond what is parked and in mailboxes is about sessions.",
                ("process_resident_memory_bytes{%R}", "{{instance}}"),
                unit="bytes",
            ),
            table(
                "Up for",
                "Which version runs, and since when. Who is younger than the others was restarted.",
                "(time() - process_start_time_seconds{%R}) * on (job, instance) group_left (version)"
                " switchboard_build_info{%R}",
                "up for",
                unit="s",
                hide=("job",),
                width=8,
            ),
        ],
    )
